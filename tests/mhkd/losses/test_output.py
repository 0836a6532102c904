from __future__ import annotations

import math

import pytest
import torch

from mhkd.losses.output import bounded_box_loss, class_loss
from tests.mhkd.losses import reference


def test_kl_by_hand() -> None:
    teacher = torch.tensor([[math.log(3.0), 0.0]])  # probabilities 3/4, 1/4
    student = torch.zeros(1, 2)  # 1/2, 1/2
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert class_loss(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert class_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-7)


def test_temperature_by_hand() -> None:
    teacher = torch.tensor([[2 * math.log(3.0), 0.0]])
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert class_loss(torch.zeros(1, 2), teacher, temperature=2.0).item() == pytest.approx(expected, rel=1e-5)


def test_boxes_are_distilled_only_where_the_student_is_worse() -> None:
    target = torch.zeros(2, 4)
    student = torch.tensor([[1.0, 0, 0, 0], [0.1, 0, 0, 0]])
    teacher = torch.tensor([[0.5, 0, 0, 0], [0.9, 0, 0, 0]])
    # First RoI: |1 - 0.5| - beta / 2 with beta 0.1; second: the teacher is further off. Mean over both.
    assert bounded_box_loss(student, teacher, target).item() == pytest.approx(0.45 / 2)


def test_no_rois_no_loss() -> None:
    assert class_loss(torch.zeros(0, 2), torch.zeros(0, 2)).item() == 0.0
    assert bounded_box_loss(*(torch.zeros(0, 4) for _ in range(3))).item() == 0.0


def float64(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_both_agree_with_the_reference() -> None:
    torch.manual_seed(0)
    student, teacher = float64(7, 6), float64(7, 6)
    for temperature in (1.0, 3.0):
        expected = reference.kl(student.numpy(), teacher.numpy(), temperature)
        assert class_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-12)
    boxes = [0.2 * float64(9, 4) for _ in range(3)]
    expected = reference.bounded_boxes(*(b.numpy() for b in boxes), beta=0.1)
    assert expected > 0
    assert bounded_box_loss(*boxes).item() == pytest.approx(expected, rel=1e-12)


def test_gradients_are_right() -> None:
    torch.manual_seed(0)
    student, teacher, target = float64(5, 4).requires_grad_(), float64(5, 4), float64(5, 4)
    assert torch.autograd.gradcheck(lambda x: class_loss(x, teacher, 2.0), student)
    assert torch.autograd.gradcheck(lambda x: bounded_box_loss(x, teacher, target), student)
