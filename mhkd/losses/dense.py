"""Output distillation of one-stage detectors: scores, boxes and centerness at the locations of a dense head.

Shapes: logits (M, K) of independent (sigmoid) classes; boxes (M, 4), xyxy; centerness logits (M,). Every loss is a sum
over locations, to be divided by what the detector divides its own losses by.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss

from mhkd.losses.precision import full_precision


def quality_focal_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 * |p_H - p_L| * BCE(p_L, p_H), p = sigmoid(logit / T): cross-entropy weighted by the disagreement.

    The weight keeps the many easy background locations from drowning the few that matter, and makes the loss of equal
    scores 0. Quality focal loss: X. Li et al., NeurIPS 2020; with exponent 1 towards a teacher's scores as in CrossKD,
    J. Wang et al., CVPR 2024.
    """
    student = full_precision(student_logits) / temperature
    teacher = torch.sigmoid(full_precision(teacher_logits) / temperature)
    entropy = functional.binary_cross_entropy_with_logits(student, teacher, reduction="none")
    return temperature**2 * ((teacher - student.sigmoid()).abs() * entropy).sum()


def bounded_iou_loss(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """1 - GIoU towards the teacher's boxes, only where the student is the worse one.

    "Worse" is a smaller GIoU with the ground truth ``target``: the teacher-bounded regression of Chen et al. (NeurIPS
    2017) in terms of the generalised IoU (Rezatofighi et al., CVPR 2019), which needs no common box parametrisation.
    """
    student, teacher, target = full_precision(student), full_precision(teacher), full_precision(target)
    worse = generalized_box_iou_loss(student.detach(), target) > generalized_box_iou_loss(teacher, target)
    return (generalized_box_iou_loss(student, teacher) * worse).sum()


def centerness_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(c_H || c_L) of the centerness as a probability: 0 where they agree."""
    student, teacher = full_precision(student_logits), full_precision(teacher_logits)
    wanted = teacher.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(student, wanted, reduction="sum")
    return cross - functional.binary_cross_entropy_with_logits(teacher, wanted, reduction="sum")
