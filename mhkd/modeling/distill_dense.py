"""Output distillation between two one-stage detectors of a kind: location by location of their dense heads.

Shapes as in mhkd/modeling/detectors_dense.py; M locations are those that two detectors share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from mhkd.losses.dense import bounded_iou_loss, centerness_loss, quality_focal_loss
from mhkd.losses.precision import full_precision
from mhkd.losses.pyramid import build_adapter, same_extent
from mhkd.modeling.detectors_dense import Maps, columns_of, predict_maps, pyramid_of
from mhkd.modeling.ignored import label_locations
from mhkd.modeling.pairing import (
    DistillationBatch,
    LossTerms,
    Outputs,
    check_classes,
    one_of,
    pair_levels,
    register_pair,
)
from mhkd.modeling.teacher import DenseTeacher
from preprocess.base.errors import UserError


@dataclass(frozen=True)
class Cut:
    """The upper left ``height`` x ``width`` cells of level number ``level`` of a head."""

    level: int
    height: int
    width: int


@dataclass(frozen=True)
class Predictions:
    """Outputs of a detector at M locations: logits (M, K), deltas and anchors (M, 4), centerness (M,) where it has one.

    factors: (M, 4), pixels of this detector's input per pixel of the up-sampled student image.
    """

    logits: Tensor
    deltas: Tensor
    centerness: Tensor | None
    anchors: Tensor
    factors: Tensor

    @classmethod
    def at(cls, detector: Any, maps: Maps, cuts: Sequence[Cut], factors: Tensor) -> Predictions:
        """
        Args:
            factors: (N, 4), those of each image.
        """
        count, levels = len(factors), [cut.level for cut in cuts]
        anchors = detector.anchor_generator(maps[0])
        sizes = [maps[0][level].shape[-2:] for level in levels]
        flat = [
            _cut([permute_to_N_HWA_K(kind[level], width) for level in levels], sizes, cuts)
            for kind, width in zip(maps, columns_of(detector, maps), strict=True)
        ]
        return cls(
            logits=flat[0],
            deltas=flat[1],
            centerness=flat[2].squeeze(1) if len(flat) > 2 else None,
            anchors=_cut([anchors[level].tensor.expand(count, -1, -1) for level in levels], sizes, cuts),
            factors=_cut([factors[:, None].expand(-1, len(anchors[level]), -1) for level in levels], sizes, cuts),
        )

    def boxes(self, detector: Any, chosen: Tensor) -> Tensor:
        """Boxes of the locations ``chosen`` in the up-sampled student frame."""
        boxes = detector.box2box_transform.apply_deltas(self.deltas[chosen], self.anchors[chosen])
        return boxes / self.factors[chosen]


def targets_at(cuts: Sequence[Cut], targets: Sequence[Tensor], maps: Maps, anchors_a_cell: int) -> Tensor:
    """The targets of all R locations, a tensor (R,) or (R, 4) an image, at those of ``cuts``: (M,) or (M, 4)."""
    sizes = [level.shape[-2:] for level in maps[0]]
    levels = torch.stack(list(targets)).split([h * w * anchors_a_cell for h, w in sizes], dim=1)
    return _cut([levels[cut.level] for cut in cuts], [sizes[cut.level] for cut in cuts], cuts)


def _cut(levels: Sequence[Tensor], sizes: Sequence[Sequence[int]], cuts: Sequence[Cut]) -> Tensor:
    """(N, H W A, ...) a level -> (M, ...): images one after another within a level, levels one after another."""
    parts = []
    for values, (height, width), cut in zip(levels, sizes, cuts, strict=True):
        grid = values.unflatten(1, (height, width, -1))
        parts.append(grid[:, : cut.height, : cut.width].flatten(0, 3))
    return torch.cat(parts)


@dataclass(frozen=True)
class StudentOutputs:
    """The student's head on a batch: its maps, and per image its targets.

    labels, boxes and left_out as :func:`mhkd.modeling.ignored.label_locations` gives them.
    """

    maps: Maps
    labels: list[Tensor]
    boxes: list[Tensor]
    left_out: list[Tensor]


@register_pair(RetinaNet, DenseTeacher)
class DenseOutputs(Outputs):
    """O_L towards O_H at the locations that both heads have: same anchor, same cell, same region.

    A location is compared only where both detectors have the same target for it (this object, background, no label):
    with a shifted pyramid a level of the student can be in charge of objects that the teacher finds on another one. A
    location that either leaves out, because it lies in an ignored box, is not compared.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("semantic_cls", "semantic_box")

    def __init__(
        self,
        student: Any,
        teacher: DenseTeacher,
        weights: dict[str, float],
        *,
        scale_ratio: int = 1,
        align: str = "shared",
        temperature: float = 1.0,
    ) -> None:
        """
        Args:
            weights: of the losses; one without a weight is not computed.
            scale_ratio: teacher pixels per pixel of the up-sampled student image, a power of two.
            align: "shared", the two heads' outputs at the same location, or "crosskd", the teacher's head on the
                student's pyramid against the teacher's head on its own.
        """
        super().__init__()
        self.weights = weights
        self.is_semantic = any(weights[name] for name in self.loss_names)
        self.temperature = temperature
        self.is_crosskd: bool = one_of(
            {"shared": False, "crosskd": True}, align, "MODEL.MHKD.ALIGN of one-stage detectors"
        )
        self.adapter: nn.Module = nn.Identity()
        self.levels: list[tuple[int, int]] = []
        if not self.is_semantic:
            return
        check_classes(student.num_classes, teacher.detector.num_classes)
        ours, theirs = (list(detector.head_in_features) for detector in (student, teacher.detector))
        self.pairs = pair_levels(
            ours, dict.fromkeys(ours), dict.fromkeys(theirs), scale_ratio, "the heads' IN_FEATURES"
        )
        self.levels = [(ours.index(s), theirs.index(t)) for s, t in self.pairs.items()]
        counts = [detector.anchor_generator.num_anchors[0] for detector in (student, teacher.detector)]
        if len(set(counts)) > 1:
            raise UserError(
                f"the student has {counts[0]} anchors a cell, the teacher {counts[1]}",
                remedy="give both the same MODEL.ANCHOR_GENERATOR, or set MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_* to 0",
            )
        if self.is_crosskd:
            own, other = next(iter(self.pairs.items()))
            shapes = student.backbone.output_shape()[own], teacher.detector.backbone.output_shape()[other]
            self.adapter = build_adapter(*(shape.channels for shape in shapes))

    @classmethod
    def from_settings(
        cls, settings: CfgNode, student: Any, teacher: DenseTeacher, weights: dict[str, float], scale_ratio: int
    ) -> DenseOutputs:
        """As MODEL.MHKD (``settings``) says."""
        return cls(
            student,
            teacher,
            weights,
            scale_ratio=scale_ratio,
            align=settings.ALIGN,
            temperature=settings.TEMPERATURE,
        )

    def student_pass(
        self, student: Any, images: ImageList, features: dict[str, Tensor], ground_truth: list[Instances]
    ) -> tuple[LossTerms, StudentOutputs]:
        maps = predict_maps(student, features)
        with torch.autocast(images.tensor.device.type, enabled=False):
            losses, targets = student.losses_of(pyramid_of(student, features), maps, ground_truth)
        return losses, StudentOutputs(maps, *targets)

    def compare(
        self, student: Any, teacher: Any, outputs: StudentOutputs, batch: DistillationBatch
    ) -> tuple[LossTerms, LossTerms]:
        if not self.is_semantic:
            return {}, {}
        maps = teacher.predict(batch.teacher_pyramid)
        crossed = teacher.apply_head(self._crossed(batch)) if self.is_crosskd else None
        with torch.autocast(batch.images.tensor.device.type, enabled=False):
            return self._terms(student, teacher.detector, outputs, maps, crossed, batch), {}

    def _crossed(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """f_L' under the teacher's level names and in its channels; levels without a counterpart are the teacher's."""
        ours = {theirs: self.adapter(full_precision(batch.features[own])) for own, theirs in self.pairs.items()}
        return {**batch.teacher_pyramid, **ours}

    def _terms(
        self,
        student: Any,
        teacher: Any,
        outputs: StudentOutputs,
        maps: Maps,
        crossed: Maps | None,
        batch: DistillationBatch,
    ) -> LossTerms:
        """
        Args:
            maps: of the teacher's head on f_H.
            crossed: of the teacher's head on f_L', to be compared in the place of the student's own maps.
        """
        strides = student.anchor_generator.strides
        extents = [
            same_extent(outputs.maps[0][s], maps[0][t], batch.size_hw, strides[s])[0].shape[-2:] for s, t in self.levels
        ]
        own, theirs = (
            [Cut(pair[side], *extent) for pair, extent in zip(self.levels, extents, strict=True)] for side in (0, 1)
        )
        factors = torch.tensor([[*scale, *scale] for scale in batch.scales])
        factors = factors.to(batch.images.tensor.device, non_blocking=True)
        wanted = Predictions.at(teacher, maps, theirs, factors)
        if crossed is None:
            given = Predictions.at(student, outputs.maps, own, torch.ones_like(factors))
        else:
            given = Predictions.at(teacher, crossed, theirs, factors)

        anchors = student.anchor_generator.num_anchors[0]
        labels, targets, left_out = (
            targets_at(own, values, outputs.maps, anchors)
            for values in (outputs.labels, outputs.boxes, outputs.left_out)
        )
        teacher_anchors = teacher.anchor_generator(maps[0])
        teacher_targets = label_locations(teacher, teacher_anchors, batch.teacher_ground_truth())
        teacher_labels, teacher_left_out = (
            targets_at(theirs, values, maps, anchors) for values in (teacher_targets[0], teacher_targets[2])
        )
        agreed = (labels == teacher_labels) & ~(left_out | teacher_left_out)
        found = agreed & (labels >= 0) & (labels < student.num_classes)

        terms: LossTerms = {}
        if self.weights["semantic_cls"]:
            terms["semantic_cls"] = quality_focal_loss(given.logits[agreed], wanted.logits[agreed], self.temperature)
        if self.weights["semantic_box"]:
            boxes = given.boxes(teacher if crossed else student, found), wanted.boxes(teacher, found)
            terms["semantic_box"] = bounded_iou_loss(*boxes, targets[found])
        if self.weights["semantic_centerness"] and given.centerness is not None and wanted.centerness is not None:
            terms["semantic_centerness"] = centerness_loss(given.centerness[found], wanted.centerness[found])
        # What the detection losses of this batch were divided by, so that a weight of 1 means the same for all of them.
        return {name: term / student.normalizer for name, term in terms.items()}


@register_pair(FCOS, DenseTeacher)
class FCOSOutputs(DenseOutputs):
    """The same with the centerness that FCOS predicts at each location."""

    loss_names = ("semantic_cls", "semantic_box", "semantic_centerness")
