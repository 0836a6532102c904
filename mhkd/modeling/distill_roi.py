"""Local and semantic distillation of two-stage detectors (phases 3 and 4): from RoIs to the numbers of the losses.

Shapes: R RoIs of the student in a batch, of which M (and G of the foreground) have a counterpart of the teacher's; K
classes, logits with the background last; pooled features (R, C, 7, 7).
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
from torch.nn import functional

from mhkd.losses.local import local_loss
from mhkd.losses.precision import full_precision
from mhkd.losses.pyramid import build_adapter
from mhkd.losses.registry import NamedRegistry
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


def class_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 * KL(p_teacher || p_student), mean over RoIs (Hinton et al., 2015)."""
    student = functional.log_softmax(full_precision(student_logits) / temperature, dim=1)
    teacher = functional.log_softmax(full_precision(teacher_logits) / temperature, dim=1)
    divergence = (teacher.exp() * (teacher - student)).sum(dim=1)
    return temperature**2 * divergence.sum() / max(len(divergence), 1)


def bounded_box_loss(student: Tensor, teacher: Tensor, target: Tensor, beta: float = 0.1) -> Tensor:
    """Smooth-L1 of foreground box deltas towards the teacher's, only where the student is the worse one.

    "Worse" is a larger L1 distance to the ground-truth deltas ``target`` (the teacher-bounded regression of
    Chen et al., NeurIPS 2017: a teacher that is further off than the student has nothing to teach).
    Mean over all foreground RoIs, so that RoIs without a lesson dilute the loss instead of vanishing.
    """
    student, teacher, target = full_precision(student), full_precision(teacher), full_precision(target)
    worse = (student.detach() - target).abs().sum(dim=1) > (teacher - target).abs().sum(dim=1)
    per_roi = functional.smooth_l1_loss(student, teacher, beta=beta, reduction="none").sum(dim=1)
    return (per_roi * worse).sum() / max(len(per_roi), 1)


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
    layers of that stage. teacher_stage: index, and teacher_stages: its own pass. What an alignment does not need is not
    computed: adapted and teacher_pooled are then f_LL, and teacher_stages is empty.
    """

    student: Stage
    adapted: Tensor
    teacher_pooled: Tensor
    predictor: Any
    teacher_stage: int
    teacher_stages: list[Stage]
    scales: Scales


Align = Callable[[Pair, RoITeacher], AlignedOutputs]


@dataclass(frozen=True)
class Alignment:
    """A function that finds the teacher's output for each output of the student, and the fields of Pair it needs."""

    align: Align
    needs: tuple[str, ...]


ALIGNMENTS = NamedRegistry("MODEL.MHKD.ALIGN")
"""Of :class:`Alignment`; see :func:`register_alignment`."""


def register_alignment(name: str, *, needs: tuple[str, ...]) -> Callable[[Align], Align]:
    """Decorator that registers the function that follows: ``MODEL.MHKD.ALIGN: name`` means it.

    Args:
        needs: which it reads of "adapted", "teacher_pooled" and "teacher_stages", fields of :class:`Pair`, which are
            computed on demand only.

    Raises:
        ValueError: ``needs`` names another field.
    """
    if unknown := set(needs) - {"adapted", "teacher_pooled", "teacher_stages"}:
        raise ValueError(f"an alignment cannot ask for {', '.join(sorted(unknown))}")

    def add(align: Align) -> Align:
        ALIGNMENTS.register(name)(Alignment(align, needs))
        return align

    return add


@register_alignment("shared", needs=("teacher_pooled",))
def align_shared(pair: Pair, teacher: RoITeacher) -> AlignedOutputs:
    """One output per student RoI: the teacher's head on f_HL."""
    logits, deltas = pair.student.logits, pair.student.deltas
    return _on_student_rois(pair, (logits, deltas), teacher.predict(pair.teacher_pooled, pair.teacher_stage))


@register_alignment("crosskd", needs=("adapted", "teacher_pooled"))
def align_crosskd(pair: Pair, teacher: RoITeacher) -> AlignedOutputs:
    """The teacher's head on f_LL against the teacher's head on f_HL: only the student's features learn from it.

    CrossKD: J. Wang et al., CVPR 2024.
    """
    crossed = teacher.apply_head(pair.adapted, pair.teacher_stage)
    return _on_student_rois(pair, crossed, teacher.predict(pair.teacher_pooled, pair.teacher_stage))


@register_alignment("iou", needs=("teacher_stages",))
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
            align: an entry of ALIGNMENTS.
            stages: which box stages of a cascade are distilled, "all" (mean over them) or "last".
            reverse_kl: weight of the reverse KL that a trainable teacher learns from.
        """
        super().__init__()
        for name, detector in (("student", student), ("teacher", teacher.detector)):
            check_box_branch(detector.roi_heads, name)
        self.weights = weights
        alignment: Alignment = ALIGNMENTS.get(align)
        self.align = alignment.align
        self.alignment_needs = alignment.needs
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
    def needs(self) -> tuple[str, ...]:
        """What the alignment reads, where outputs are compared."""
        return self.alignment_needs if self.is_semantic else ()

    @property
    def reads_adapter(self) -> bool:
        return bool(self.weights["local"]) or "adapted" in self.needs

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
        if teacher.trainable or "teacher_stages" in self.needs:
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
        pooled = stage.pooled
        if weights["local"] or "teacher_pooled" in self.needs:
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
