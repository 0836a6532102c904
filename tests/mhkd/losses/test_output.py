from __future__ import annotations

import math

import pytest
import torch

from mhkd.losses.output import bounded_box_loss, class_loss


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
