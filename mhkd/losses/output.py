"""Output distillation (phase 4): class scores and boxes of the student towards those of the teacher.

Shapes: logits (R, K + 1), background last; deltas (R, 4) of the RoI's own class.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from mhkd.losses.precision import full_precision


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
