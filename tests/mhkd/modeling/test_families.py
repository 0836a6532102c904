from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mhkd.modeling.families import as_teacher
from mhkd.modeling.outputs import Outputs
from preprocess.errors import UserError
from tests.mhkd.modeling.pairs import distiller, pair

MakeCfg = Callable[..., CfgNode]
MIXED = [("retinanet", "demo"), ("fcos", "demo"), ("demo", "fcos"), ("demo", "retinanet"), ("fcos", "retinanet")]


@pytest.mark.parametrize("kinds", MIXED, ids="-of-".join)
def test_detectors_of_two_families_share_features_only(tiny_cfg: MakeCfg, kinds: tuple[str, str]) -> None:
    model = distiller(tiny_cfg, kinds=kinds)
    assert type(model.outputs) is Outputs
    with EventStorage(0):
        losses = model([pair([[4.0, 4, 20, 22]]), pair([])])
    assert {name for name in losses if "kd" in name} == {"loss_kd_feature"}
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize("kinds", MIXED, ids="-of-".join)
@pytest.mark.parametrize("loss", ["LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX"])
def test_their_outputs_are_refused_by_name(tiny_cfg: MakeCfg, kinds: tuple[str, str], loss: str) -> None:
    with pytest.raises(UserError, match=rf"LOSS_WEIGHTS\.{loss} has no meaning for a .* student of a .*FEATURE\)"):
        distiller(tiny_cfg, kinds=kinds, losses=("FEATURE", loss))


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("retinanet", "LOCAL"), ("fcos", "LOCAL"), ("retinanet", "SEMANTIC_CENTERNESS"), ("demo", "SEMANTIC_CENTERNESS")],
)
def test_a_loss_without_a_meaning_is_refused_by_name(tiny_cfg: MakeCfg, kind: str, loss: str) -> None:
    with pytest.raises(UserError, match=rf"LOSS_WEIGHTS\.{loss} has no meaning.*SEMANTIC_BOX"):
        distiller(tiny_cfg, kinds=(kind, kind), losses=("FEATURE", loss))


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_no_part_of_a_one_stage_teacher_learns(tiny_cfg: MakeCfg, kind: str) -> None:
    detector = build_model(tiny_cfg(f"{kind}/teacher"))
    assert not any(p.requires_grad for p in as_teacher(detector).parameters())
    with pytest.raises(UserError, match=r"TRAINABLE names roi_heads.*Upsampled.*use \[\]: "):
        as_teacher(detector, ("roi_heads",))


def test_other_detectors_do_not_teach() -> None:
    with pytest.raises(UserError, match=r"the teacher is a Linear.*RetinaNet and FCOS"):
        as_teacher(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["RetinaNet", "MHKD", "nothing"])
def test_a_student_has_an_up_sampled_input(tiny_cfg: MakeCfg, name: str) -> None:
    with pytest.raises(UserError, match=r"STUDENT is .*UpsampledRCNN"):
        distiller(tiny_cfg, "MODEL.MHKD.STUDENT", name)
