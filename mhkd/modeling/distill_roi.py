"""Which output of the teacher each output of the student is compared with (phase 4).

Shapes: R RoIs of the student, of which F are foreground; M of them (and G of the foreground) have a counterpart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import ImageList, Instances, pairwise_iou
from torch import Tensor

from mhkd.losses.local import local_loss
from mhkd.losses.output import bounded_box_loss, class_loss
from mhkd.losses.pyramid import build_adapter
from mhkd.modeling.box_stages import Stage, check_box_branch, predictors, run_stages, stage_losses
from mhkd.modeling.pairing import (
    DistillationBatch,
    LossTerms,
    Outputs,
    Scales,
    _factors,
    check_classes,
    one_of,
    register_pair,
    to_teacher,
)
from mhkd.modeling.teacher import RoITeacher
from preprocess.base.errors import UserError

MATCH_IOU = 0.5


@dataclass(frozen=True)
class AlignedOutputs:
    """Outputs for the same RoIs: logits (M, K + 1), deltas and the deltas of the ground truth (G, 4).

    own_logits: (M, K + 1) of the student's own head; differs from ``student_logits`` under ``crosskd`` only.
    """

    own_logits: Tensor
    student_logits: Tensor
    teacher_logits: Tensor
    student_deltas: Tensor
    teacher_deltas: Tensor
    target_deltas: Tensor

    def class_loss(self, temperature: float) -> Tensor:
        """T^2 * KL(p_H || p_L); the teacher's side without a gradient."""
        return class_loss(self.student_logits, self.teacher_logits.detach(), temperature)

    def box_loss(self) -> Tensor:
        """Teacher-bounded smooth-L1 on foreground RoIs."""
        return bounded_box_loss(self.student_deltas, self.teacher_deltas.detach(), self.target_deltas)

    def reverse_class_loss(self, temperature: float) -> Tensor:
        """T^2 * KL(p_L || p_H) for a teacher that learns; the student's side without a gradient."""
        return class_loss(self.teacher_logits, self.own_logits.detach(), temperature)


@dataclass(frozen=True)
class Pair:
    """What there is to align at one stage.

    student: its stage. adapted: f_LL in the teacher's channels. teacher_pooled: f_HL. predictor: the student's output
    layers of that stage. teacher_stage: index, and teacher_stages: its own pass (only for ``iou``).
    """

    student: Stage
    adapted: Tensor
    teacher_pooled: Tensor
    predictor: Any
    teacher_stage: int
    teacher_stages: list[Stage]
    scales: Scales


def align_shared(pair: Pair, teacher: RoITeacher) -> AlignedOutputs:
    """One output per student RoI: the teacher's head on f_HL."""
    logits, deltas = pair.student.logits, pair.student.deltas
    return _on_student_rois(pair, (logits, deltas), teacher.predict(pair.teacher_pooled, pair.teacher_stage))


def align_crosskd(pair: Pair, teacher: RoITeacher) -> AlignedOutputs:
    """The teacher's head on f_LL against the teacher's head on f_HL: only the student's features learn from it.

    CrossKD: J. Wang et al., CVPR 2024.
    """
    crossed = teacher.apply_head(pair.adapted, pair.teacher_stage)
    return _on_student_rois(pair, crossed, teacher.predict(pair.teacher_pooled, pair.teacher_stage))


def align_iou(pair: Pair, teacher: RoITeacher) -> AlignedOutputs:
    """The teacher's own outputs O_H on Proposal_H, each for the student RoIs it overlaps best at IoU >= 0.5.

    RoIs without such a proposal are left out. The teacher's box becomes deltas of the student's RoI.
    """
    student, own = pair.student, pair.teacher_stages[pair.teacher_stage]
    matched, index, factors, offset = [], [], [], 0
    for boxes, theirs, scale in zip(student.boxes, own.boxes, pair.scales, strict=True):
        ious = pairwise_iou(to_teacher(boxes, scale), theirs)
        if not len(theirs):  # a column that matches nothing: max() of no columns is an error
            ious = ious.new_zeros(len(boxes), 1)
        best, which = ious.max(dim=1)
        matched.append(best >= MATCH_IOU)
        index.append(which + offset)
        factors.append(_factors(boxes.tensor, scale).expand(len(boxes), 4))
        offset += len(theirs)
    kept, rows = torch.cat(matched), torch.cat(index)
    foreground = kept & student.foreground
    classes, chosen = student.classes[foreground], rows[foreground]
    proposals = torch.cat([b.tensor for b in own.boxes])[chosen]
    source, target = _sources_and_targets(student, foreground)
    transform = pair.predictor.box2box_transform
    teacher_px = transform.apply_deltas(of_own_class(own.deltas[chosen], classes), proposals)
    student_px = teacher_px / torch.cat(factors)[foreground]
    return AlignedOutputs(
        own_logits=student.logits[kept],
        student_logits=student.logits[kept],
        teacher_logits=own.logits[rows[kept]],
        student_deltas=of_own_class(student.deltas[foreground], classes),
        teacher_deltas=transform.get_deltas(source, student_px),
        target_deltas=transform.get_deltas(source, target),
    )


ALIGNMENTS: dict[str, Callable[[Pair, RoITeacher], AlignedOutputs]] = {
    "shared": align_shared,
    "iou": align_iou,
    "crosskd": align_crosskd,
}


def _on_student_rois(
    pair: Pair, student_outputs: tuple[Tensor, Tensor], teacher_outputs: tuple[Tensor, Tensor]
) -> AlignedOutputs:
    stage = pair.student
    foreground = stage.foreground
    classes = stage.classes[foreground]
    source, target = _sources_and_targets(stage, foreground)
    return AlignedOutputs(
        own_logits=stage.logits,
        student_logits=student_outputs[0],
        teacher_logits=teacher_outputs[0],
        student_deltas=of_own_class(student_outputs[1][foreground], classes),
        teacher_deltas=of_own_class(teacher_outputs[1][foreground], classes),
        target_deltas=pair.predictor.box2box_transform.get_deltas(source, target),
    )


def _sources_and_targets(stage: Stage, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """RoIs and their ground-truth boxes, (G, 4) each, for the foreground among them, or a part of it."""
    source = torch.cat([x.proposal_boxes.tensor for x in stage.proposals])
    # Detectron2 leaves gt_boxes out for an image without objects; none of its RoIs is foreground.
    target = torch.cat([(x.gt_boxes if x.has("gt_boxes") else x.proposal_boxes).tensor for x in stage.proposals])
    return source[foreground], target[foreground]


def of_own_class(deltas: Tensor, classes: Tensor) -> Tensor:
    """(G, 4) of (G, 4 K): each RoI's deltas for its class; a class-agnostic (G, 4) as it is."""
    # The number of columns is spelled out: a batch without foreground leaves no rows to infer it from.
    per_class = deltas.view(len(deltas), deltas.shape[1] // 4, 4)
    column = classes if per_class.shape[1] > 1 else torch.zeros_like(classes)
    return per_class[torch.arange(len(deltas), device=deltas.device), column]


@register_pair(GeneralizedRCNN, RoITeacher)
class RoIOutputs(Outputs):
    """f_LL towards f_HL, and O_L towards O_H, each the mean over the box stages that are compared."""

    loss_names = ("local", "semantic_cls", "semantic_box")

    def __init__(
        self,
        student: Any,
        teacher: RoITeacher,
        weights: dict[str, float],
        *,
        align: str = "shared",
        stages: str = "all",
        temperature: float = 1.0,
        reverse_kl: float = 0.5,
    ) -> None:
        """
        Args:
            weights: of the losses; one without a weight is not computed.
            align: "shared", "iou" or "crosskd"; see mhkd/modeling/distill_roi.py.
            stages: which box stages of a cascade are distilled, "all" (mean over them) or "last".
            reverse_kl: weight of the reverse KL that a trainable teacher learns from.
        """
        super().__init__()
        for name, detector in (("student", student), ("teacher", teacher.detector)):
            check_box_branch(detector.roi_heads, name)
        self.weights = weights
        self.align = one_of(ALIGNMENTS, align, "MODEL.MHKD.ALIGN")
        self.matches_own_pass = align == "iou"
        self.temperature = temperature
        self.reverse_kl = reverse_kl
        self.stage_pairs = self._pair_stages(student.roi_heads, teacher.roi_heads, stages)
        # Only where something reads it: an adapter without a gradient would stall distributed training.
        if self.reads_adapter:
            self.adapter = build_adapter(*(_roi_channels(d) for d in (student, teacher.detector)))

    @property
    def is_semantic(self) -> bool:
        """Whether outputs are compared."""
        return bool(self.weights["semantic_cls"] or self.weights["semantic_box"])

    @property
    def wants_own_pass(self) -> bool:
        """Whether the teacher's own proposals are needed."""
        return self.matches_own_pass and self.is_semantic

    @property
    def reads_adapter(self) -> bool:
        return bool(self.weights["local"]) or (self.is_semantic and self.align is align_crosskd)

    @classmethod
    def from_settings(
        cls, settings: CfgNode, student: Any, teacher: RoITeacher, weights: dict[str, float], scale_ratio: int
    ) -> RoIOutputs:
        """As MODEL.MHKD (``settings``) says; RoIs fit at any ``scale_ratio``."""
        return cls(
            student,
            teacher,
            weights,
            align=settings.ALIGN,
            stages=settings.STAGES,
            temperature=settings.TEMPERATURE,
            reverse_kl=settings.TEACHER.REVERSE_KL,
        )

    def _pair_stages(self, student: Any, teacher: Any, which: str) -> list[tuple[int, int]]:
        """(student stage, teacher stage) that are compared: each with its own, or the last with the last."""
        one_of({"all": None, "last": None}, which, "MODEL.MHKD.STAGES")
        ours, theirs = predictors(student), predictors(teacher)
        pairs = [(len(ours) - 1, len(theirs) - 1)]
        if which == "all" and len(ours) == len(theirs):
            pairs = [(i, i) for i in range(len(ours))]
        if self.is_semantic:
            check_classes(student.num_classes, teacher.num_classes)
        for s, t in pairs:
            scales = (tuple(predictor.box2box_transform.weights) for predictor in (ours[s], theirs[t]))
            if self.weights["semantic_box"] and len(set(scales)) > 1:
                raise UserError(
                    "student and teacher scale their box deltas differently",
                    remedy="give both the same BBOX_REG_WEIGHTS, or set MODEL.MHKD.LOSS_WEIGHTS.SEMANTIC_BOX to 0",
                )
        return pairs

    def student_pass(
        self, student: Any, images: ImageList, features: dict[str, Tensor], ground_truth: list[Instances]
    ) -> tuple[LossTerms, list[Stage]]:
        proposals, losses = student.proposal_generator(images, features, ground_truth)
        # Step by step, to get at the pooled features and predictions without a second pass.
        stages = run_stages(student.roi_heads, features, proposals, ground_truth)
        return {**losses, **stage_losses(student.roi_heads, stages)}, stages

    def compare(
        self, student: Any, teacher: Any, outputs: list[Stage], batch: DistillationBatch
    ) -> tuple[LossTerms, LossTerms]:
        if not (self.weights["local"] or self.is_semantic):
            return {}, {}
        own_pass: list[Stage] = []
        if teacher.trainable or self.wants_own_pass:
            targets = batch.teacher_ground_truth() if teacher.trainable else None
            own_pass = teacher.detect(batch.teacher_images, batch.teacher_pyramid, targets)
        by_name: dict[str, list[Tensor]] = {}
        for index, teacher_index in self.stage_pairs:
            for name, term in self._stage_terms(
                student, teacher, outputs[index], own_pass, batch, (index, teacher_index)
            ):
                by_name.setdefault(name, []).append(term)
        terms = {name: torch.stack(values).mean() for name, values in by_name.items()}
        return terms, teacher.losses(own_pass) if teacher.trainable else {}

    def _stage_terms(
        self,
        student: Any,
        teacher: RoITeacher,
        stage: Stage,
        own_pass: list[Stage],
        batch: DistillationBatch,
        indices: tuple[int, int],
    ) -> list[tuple[str, Tensor]]:
        weights = self.weights
        adapted = self.adapter(stage.pooled)
        if self.wants_own_pass and not weights["local"]:
            pooled = stage.pooled  # the outputs come from the teacher's own pass
        else:
            boxes = [to_teacher(b, scale) for b, scale in zip(stage.boxes, batch.scales, strict=True)]
            pooled = teacher.pool(batch.teacher_pyramid, boxes)
        terms: list[tuple[str, Tensor]] = []
        if weights["local"]:
            terms.append(("local", local_loss(adapted, pooled, stage.foreground)))
        if self.is_semantic:
            predictor = predictors(student.roi_heads)[indices[0]]
            pair = Pair(stage, adapted, pooled, predictor, indices[1], own_pass, batch.scales)
            outputs = self.align(pair, teacher)
            if weights["semantic_cls"]:
                terms.append(("semantic_cls", outputs.class_loss(self.temperature)))
            if weights["semantic_box"]:
                terms.append(("semantic_box", outputs.box_loss()))
            if teacher.trainable:
                terms.append(("reverse", self.reverse_kl * outputs.reverse_class_loss(self.temperature)))
        return terms


def _roi_channels(detector: Any) -> int:
    return detector.backbone.output_shape()[detector.roi_heads.box_in_features[0]].channels
