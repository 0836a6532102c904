from __future__ import annotations

import numpy as np
import pytest
import torch

from mhkd.losses.mgd import ALPHA, MASKED_SHARE, MGD
from tests.mhkd.losses import reference

BOXES = [torch.tensor([[1.0, 1.0, 3.0, 2.0]])]


@pytest.mark.parametrize("foreground_only", [False, True])
def test_mgd_agrees_with_the_reference(foreground_only: bool) -> None:
    torch.manual_seed(0)
    loss = MGD(2, foreground_only=foreground_only).double()
    student, teacher = torch.randn(1, 2, 3, 4).double(), torch.randn(1, 2, 3, 4).double()
    torch.manual_seed(7)
    visible = torch.rand(1, 1, 3, 4).numpy()[0] >= MASKED_SHARE
    first, _, second = loss.generator
    hidden = reference.convolve(student.numpy()[0] * visible, *(p.detach().numpy() for p in (first.weight, first.bias)))
    made = reference.convolve(np.maximum(hidden, 0), *(p.detach().numpy() for p in (second.weight, second.bias)))
    errors = (made - teacher.numpy()[0]) ** 2
    expected = ALPHA * (errors[:, 1:2, 1:3] if foreground_only else errors).sum()
    torch.manual_seed(7)
    assert loss(student, teacher, BOXES).item() == pytest.approx(expected, rel=1e-9)


def test_mgd_by_hand() -> None:
    """A generator that says 2, and one that says what it sees: squared errors per image."""
    loss = MGD(1)
    for parameter in loss.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(loss.generator[2].bias, 2.0)
    teacher = torch.tensor([1.0, 5.0]).view(1, 1, 1, 2).expand(2, 1, 1, 2)
    assert loss(torch.zeros(2, 1, 1, 2), teacher, []).item() == pytest.approx(5e-7 * (1 + 9))
    for layer in (loss.generator[0], loss.generator[2]):  # the identity
        torch.nn.init.zeros_(layer.bias)
        torch.nn.init.constant_(layer.weight[0, 0, 1, 1], 1.0)
    torch.manual_seed(0)
    hidden = int((torch.rand(1, 1, 8, 8) < 0.45).sum())
    assert 0 < hidden < 64
    torch.manual_seed(0)
    ones = torch.ones(1, 1, 8, 8)
    assert loss(ones, ones, []).item() == pytest.approx(5e-7 * hidden)


def test_the_masked_share_is_the_stated_one() -> None:
    torch.manual_seed(0)
    loss = MGD(1)
    seen = []
    loss.generator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    loss(torch.ones(1, 1, 100, 100), torch.zeros(1, 1, 100, 100), [])
    assert (seen[0] == 0).float().mean().item() == pytest.approx(MASKED_SHARE, abs=0.02)


def test_the_generator_trains() -> None:
    loss = MGD(2)
    loss(torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3), []).backward()
    assert all(p.grad is not None for p in loss.parameters())
