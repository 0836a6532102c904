"""Tile pairs and a distiller in memory, for the tests of the models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from mhkd.modeling.meta_arch import MHKD
from mhkd.modeling.pairing import as_teacher

ALL = ("FEATURE", "LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX")
DENSE = ("FEATURE", "SEMANTIC_CLS", "SEMANTIC_BOX")
EVERY = (*ALL, "SEMANTIC_CENTERNESS")
LOSSES_OF = {"demo": ALL, "retinanet": DENSE, "fcos": (*DENSE, "SEMANTIC_CENTERNESS")}
HEADS = ("ROI_HEADS", "RETINANET", "FCOS")
CASCADE = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)


def distiller(
    tiny_cfg: Callable[..., CfgNode],
    *overrides: object,
    classes: int = 1,
    s: int = 4,
    teacher: tuple[object, ...] = (),
    trainable: tuple[str, ...] = (),
    kinds: tuple[str, str] = ("demo", "demo"),
    losses: tuple[str, ...] | None = None,
) -> MHKD:
    """All losses of the pair at weight 1, in one phase; ``overrides`` are the student's, ``teacher`` the teacher's.

    kinds: folders in configs/, the student's and the teacher's.
    """
    torch.manual_seed(0)
    if losses is None:
        losses = LOSSES_OF[kinds[0]] if len(set(kinds)) == 1 else ("FEATURE",)
    weights = [x for name in EVERY for x in (f"MODEL.MHKD.LOSS_WEIGHTS.{name}", float(name in losses))]
    alone = ("MODEL.MHKD.PHASES", [], "MODEL.MHKD.BFA.ENABLED", True, "MODEL.MHKD.SCALE_FACTOR", s)
    counts = [x for head in HEADS for x in (f"MODEL.{head}.NUM_CLASSES", classes)]
    cfg = tiny_cfg(f"{kinds[0]}/distill", *counts, *alone, *weights, *overrides)
    teacher_cfg = tiny_cfg(f"{kinds[1]}/teacher", *counts, *teacher)
    detector = as_teacher(build_model(teacher_cfg), trainable)
    return MHKD(cfg, teacher=detector).train()


def pair(boxes: list[list[float]], side: int | tuple[int, int] = 32, s: int = 4, label: int = 0) -> dict[str, Any]:
    """A student image of ``side`` (or height, width) px with ``boxes``, and the teacher's, ``s`` times as large."""
    height, width = (side, side) if isinstance(side, int) else side
    instances = Instances((height, width), gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    instances.gt_classes = torch.full((len(boxes),), label)
    image = torch.randint(0, 255, (3, height, width), dtype=torch.uint8)
    teacher_image = image.repeat_interleave(s, 1).repeat_interleave(s, 2)
    return {"image": image, "teacher_image": teacher_image, "instances": instances, "height": height, "width": width}
