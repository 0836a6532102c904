"""Output distillation between two one-stage detectors of a kind: location by location of their dense heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.structures import ImageList, Instances
from torch import Tensor

from mhkd.losses.dense import bounded_iou_loss, centerness_loss, quality_focal_loss
from mhkd.losses.precision import full_precision
from mhkd.losses.pyramid import build_adapter, same_extent
from mhkd.modeling.dense_head import Cut, Maps, Predictions, predict_maps, pyramid_of, told
from mhkd.modeling.pairing import Outputs, Terms, View, check_classes, one_of, pair_levels, register_pair
from mhkd.modeling.teacher import DenseTeacher
from preprocess.base.errors import UserError


@dataclass(frozen=True)
class Answer:
    """The student's head on a batch: its maps, and per image the labels (R,) and boxes (R, 4) that it was told."""

    maps: Maps
    labels: list[Tensor]
    boxes: list[Tensor]


@register_pair(RetinaNet, DenseTeacher)
class DenseOutputs(Outputs):
    """O_L towards O_H at the locations that both heads have: same anchor, same cell, same region.

    A location teaches only where both detectors are told the same about it (this object, background, to be ignored):
    with a shifted pyramid a level of the student can be in charge of objects that the teacher finds on another one.
    """

    reads: ClassVar[tuple[str, ...]] = ("semantic_cls", "semantic_box")

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
        self.temperature = temperature
        self.crosses: bool = one_of(
            {"shared": False, "crosskd": True}, align, "MODEL.MHKD.ALIGN of one-stage detectors"
        )
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
        if self.crosses:
            own, other = next(iter(self.pairs.items()))
            shapes = student.backbone.output_shape()[own], teacher.detector.backbone.output_shape()[other]
            self.adapter = build_adapter(*(shape.channels for shape in shapes))

    @property
    def is_semantic(self) -> bool:
        """Whether outputs are compared."""
        return any(self.weights[name] for name in self.reads)

    @property
    def reads_adapter(self) -> bool:
        return self.crosses and self.is_semantic

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
    ) -> tuple[Terms, Answer]:
        maps = predict_maps(student, features)
        with torch.autocast(images.tensor.device.type, enabled=False):
            losses, labels, boxes = student.losses_of(pyramid_of(student, features), maps, ground_truth)
        return losses, Answer(maps, labels, boxes)

    def compare(self, student: Any, teacher: Any, answer: Answer, view: View) -> tuple[Terms, Terms]:
        if not self.is_semantic:
            return {}, {}
        maps = teacher.predict(view.teacher_pyramid)
        crossed = teacher.judge(self._crossed(view)) if self.crosses else None
        with torch.autocast(view.images.tensor.device.type, enabled=False):
            return self._terms(student, teacher.detector, answer, maps, crossed, view), {}

    def _crossed(self, view: View) -> dict[str, Tensor]:
        """f_L' under the teacher's level names and in its channels; levels without a counterpart are the teacher's."""
        ours = {theirs: self.adapter(full_precision(view.features[own])) for own, theirs in self.pairs.items()}
        return {**view.teacher_pyramid, **ours}

    def _terms(self, student: Any, teacher: Any, answer: Answer, maps: Maps, crossed: Maps | None, view: View) -> Terms:
        """
        Args:
            maps: what the teacher's head says about f_H.
            crossed: what it says about f_L', to be compared in the place of the student's own maps.
        """
        strides = student.anchor_generator.strides
        extents = [
            same_extent(answer.maps[0][s], maps[0][t], view.size_hw, strides[s])[0].shape[-2:] for s, t in self.levels
        ]
        own, theirs = (
            [Cut(pair[side], *extent) for pair, extent in zip(self.levels, extents, strict=True)] for side in (0, 1)
        )
        factors = torch.tensor([[*scale, *scale] for scale in view.scales], device=view.images.tensor.device)
        wanted = Predictions.at(teacher, maps, theirs, factors)
        if crossed is None:
            given = Predictions.at(student, answer.maps, own, torch.ones_like(factors))
        else:
            given = Predictions.at(teacher, crossed, theirs, factors)

        anchors = student.anchor_generator.num_anchors[0]
        labels, targets = (told(values, answer.maps, own, anchors) for values in (answer.labels, answer.boxes))
        teacher_labels = teacher.label_anchors(teacher.anchor_generator(maps[0]), view.teacher_ground_truth())[0]
        agreed = labels == told(teacher_labels, maps, theirs, anchors)
        found = agreed & (labels >= 0) & (labels < student.num_classes)

        terms: Terms = {}
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

    reads = ("semantic_cls", "semantic_box", "semantic_centerness")
