from __future__ import annotations

import pytest
import torch

from mhkd.losses.local import local_loss
from tests.mhkd.losses import reference


def test_halves_are_normalised_by_their_own_counts() -> None:
    teacher = torch.zeros(3, 1, 1, 1)
    student = torch.tensor([2.0, 1.0, 3.0]).view(3, 1, 1, 1)
    # foreground: 4; background: (1 + 9) / 2 = 5; 0.5 * 4 + 0.5 * 5
    assert local_loss(student, teacher, torch.tensor([True, False, False])).item() == 4.5


def test_an_empty_group_adds_nothing() -> None:
    student, teacher = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    assert local_loss(student, teacher, torch.tensor([False, False])).item() == 0.5
    assert local_loss(student[:0], teacher[:0], torch.zeros(0, dtype=torch.bool)).item() == 0.0


def test_it_agrees_with_the_reference_and_so_does_its_gradient() -> None:
    torch.manual_seed(0)
    student, teacher = (torch.randn(6, 3, 2, 2, dtype=torch.float64) for _ in range(2))
    foreground = torch.tensor([True, False, False, True, False, False])
    expected = reference.halves(student.numpy(), teacher.numpy(), foreground.numpy())
    assert local_loss(student, teacher, foreground).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: local_loss(x, teacher, foreground), student.requires_grad_())
    assert local_loss(teacher, teacher, foreground).item() == 0


def test_half_precision_is_compared_in_full() -> None:
    torch.manual_seed(0)
    student, teacher = (torch.randn(4, 3, 7, 7).to(torch.bfloat16) for _ in range(2))
    foreground = torch.tensor([True, False, False, True])
    loss = local_loss(student.requires_grad_(), teacher, foreground)
    loss.backward()
    exact = student.detach().double().requires_grad_()
    local_loss(exact, teacher.double(), foreground).backward()
    assert exact.grad is not None
    expected = reference.halves(exact.detach().numpy(), teacher.double().numpy(), foreground.numpy())
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(student.grad, exact.grad.to(torch.bfloat16))
