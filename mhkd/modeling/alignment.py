"""Which output of the teacher each output of the student is compared with (phase 4).

Shapes: R RoIs of the student, of which F are foreground; M of them (and G of the foreground) have a counterpart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from mhkd.losses.output import bounded_box_loss, class_loss
from mhkd.modeling.box_stages import Stage
from mhkd.modeling.teacher import RoITeacher

MATCH_IOU = 0.5
Scales = Sequence[tuple[float, float]]
"""Per image, teacher pixels per pixel of the up-sampled student image, in x and in y."""


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
    crossed = teacher.judge(pair.adapted, pair.teacher_stage)
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


def to_teacher(boxes: Boxes, scale: tuple[float, float]) -> Boxes:
    """Boxes of the up-sampled student image in teacher pixels, detached."""
    return Boxes(boxes.tensor.detach() * _factors(boxes.tensor, scale))


def _factors(like: Tensor, scale: tuple[float, float]) -> Tensor:
    return like.new_tensor([*scale, *scale])
