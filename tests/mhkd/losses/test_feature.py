from __future__ import annotations

import pytest
import torch

from mhkd.losses.feature import mse_loss, pkd_loss


def test_pkd_is_one_minus_pearson_correlation() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 5, 7)
    expected = [
        1 - torch.corrcoef(torch.stack([student[:, c].flatten(), teacher[:, c].flatten()]).double())[0, 1]
        for c in range(3)
    ]
    # The unbiased standard deviation of 70 values makes the loss smaller by 69/70.
    assert pkd_loss(student, teacher).item() == pytest.approx(torch.stack(expected).mean().item() * 69 / 70, rel=1e-4)


def test_pkd_ignores_scale_and_offset_and_is_zero_for_equal_features() -> None:
    features = torch.randn(2, 4, 6, 6)
    assert pkd_loss(3 * features + 5, features).item() == pytest.approx(0, abs=1e-6)


def test_mse_by_hand() -> None:
    assert mse_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]]])).item() == 5.0


def test_gradients() -> None:
    torch.manual_seed(1)
    student = torch.randn(2, 2, 3, 3, requires_grad=True)
    pkd_loss(student, torch.randn(2, 2, 3, 3)).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_losses_are_float32_under_bfloat16() -> None:
    features = torch.randn(1, 2, 4, 4).bfloat16()
    assert pkd_loss(features, features).dtype == torch.float32
