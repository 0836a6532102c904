from __future__ import annotations

import math

import pytest
import torch

from mhkd.losses.dense import bounded_iou_loss, centerness_loss, quality_focal_loss
from tests.mhkd.losses import reference

LOG3 = math.log(3.0)  # the logit of 3/4


def test_scores_by_hand() -> None:
    teacher, student = torch.tensor([[LOG3]]), torch.zeros(1, 1)  # 3/4 and 1/2: BCE is log 2, whatever the target
    assert quality_focal_loss(student, teacher).item() == pytest.approx(0.25 * math.log(2))
    assert quality_focal_loss(student, 2 * teacher, temperature=2.0).item() == pytest.approx(4 * 0.25 * math.log(2))
    assert quality_focal_loss(teacher, teacher).item() == 0.0


def test_the_loss_is_small_where_both_are_sure_of_background() -> None:
    sure, unsure = torch.full((100, 1), -6.0), torch.full((100, 1), -5.0)
    missed = quality_focal_loss(torch.tensor([[-5.0]]), torch.tensor([[3.0]]))
    assert quality_focal_loss(unsure, sure) < 0.01 * missed


def test_boxes_by_hand() -> None:
    target = torch.tensor([[0.0, 0, 10, 10]] * 3)
    student = torch.tensor([[0.0, 0, 10, 5], [0.0, 0, 10, 9], [20.0, 0, 30, 10]])
    teacher = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 5], [0.0, 0, 10, 10]])
    # First: IoU 1/2 towards a better teacher, hull full. Second: the teacher is the worse one. Third: apart, with a
    # union of 200 in a hull of 300: 1 + 1/3.
    assert bounded_iou_loss(student, teacher, target).item() == pytest.approx(0.5 + 4 / 3, rel=1e-5)
    assert bounded_iou_loss(student, student, target).item() == 0.0


def test_centerness_by_hand() -> None:
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert centerness_loss(torch.zeros(1), torch.tensor([LOG3])).item() == pytest.approx(expected, rel=1e-5)
    assert centerness_loss(torch.tensor([LOG3]), torch.tensor([LOG3])).item() == 0.0


def test_no_locations_no_loss() -> None:
    assert quality_focal_loss(torch.zeros(0, 2), torch.zeros(0, 2)).item() == 0.0
    assert bounded_iou_loss(*(torch.zeros(0, 4) for _ in range(3))).item() == 0.0
    assert centerness_loss(torch.zeros(0), torch.zeros(0)).item() == 0.0


def test_half_precision_is_computed_in_float32() -> None:
    logits = torch.tensor([[1.0, -2.0]], dtype=torch.bfloat16)
    assert quality_focal_loss(logits, -logits).dtype == torch.float32
    assert centerness_loss(logits[0], -logits[0]).dtype == torch.float32


def float64_boxes(count: int) -> torch.Tensor:
    corner, size = torch.rand(2, count, 2, dtype=torch.float64)
    return torch.cat([corner, corner + 0.3 + size], dim=1)


def test_all_agree_with_the_reference() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 7, 5, dtype=torch.float64)
    for temperature in (1.0, 3.0):
        expected = reference.quality_focal(student.numpy(), teacher.numpy(), temperature)
        assert quality_focal_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-12)
    expected = reference.bernoulli_kl(student.numpy(), teacher.numpy())
    assert centerness_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    boxes = [float64_boxes(20) for _ in range(3)]
    expected = reference.bounded_iou(*(b.numpy() for b in boxes))
    assert 0 < expected < 20
    assert bounded_iou_loss(*boxes).item() == pytest.approx(expected, rel=1e-5)  # the library adds 1e-7 to areas


def test_gradients_are_right() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3, dtype=torch.float64).requires_grad_(), torch.randn(5, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: quality_focal_loss(x, teacher, 2.0), student)
    assert torch.autograd.gradcheck(lambda x: centerness_loss(x, teacher), student)
    boxes, theirs, target = float64_boxes(6).requires_grad_(), float64_boxes(6), float64_boxes(6)
    assert bounded_iou_loss(boxes, theirs, target) > 0
    assert torch.autograd.gradcheck(lambda x: bounded_iou_loss(x, theirs, target), boxes)
