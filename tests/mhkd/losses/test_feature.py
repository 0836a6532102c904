from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mhkd.losses.build import build_feature_loss
from mhkd.losses.feature import CWD, MSE, PKD
from mhkd.losses.registry import FEATURE_LOSSES
from tests.mhkd.losses import reference

NAMES = sorted(name for name, _ in FEATURE_LOSSES)
NO_BOXES: list[Tensor] = [torch.zeros(0, 4)] * 2
LEFT_HALF = [torch.tensor([[0.0, 0.0, 2.0, 3.0]]), torch.zeros(0, 4)]


def features(seed: int, *, channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, 3, 4, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_agree_with_the_reference(dtype: torch.dtype) -> None:
    student, teacher = features(0, dtype=dtype), features(1, dtype=dtype)
    ours, theirs = student.double().numpy(), teacher.double().numpy()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-6  # PKD adds 1e-6 to its deviations
    for loss, expected in (
        (PKD(3), reference.pkd(ours, theirs)),
        (MSE(3), reference.mse(ours, theirs)),
        (CWD(3, temperature=1.0), reference.cwd(ours, theirs, 1.0)),
        (CWD(3, temperature=4.0), reference.cwd(ours, theirs, 4.0)),
    ):
        assert loss(student, teacher, NO_BOXES).item() == pytest.approx(expected, rel=tolerance * 10)


def test_pkd_ignores_scale_and_offset() -> None:
    assert PKD(3)(3 * features(0) + 5, features(0), NO_BOXES).item() == pytest.approx(0, abs=1e-6)


def test_pkd_by_hand() -> None:
    """Half the squared distance of standardised channels: 1 - correlation, times 3/4 as the deviation is unbiased."""
    teacher = torch.tensor([[[[0.0, 0.0, 8.0, 8.0]]]])
    opposite, unrelated = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0, 0.0, 1.0]]]])
    assert PKD(1)(opposite, teacher, NO_BOXES).item() == pytest.approx(2 * 3 / 4, rel=1e-5)
    assert PKD(1)(unrelated, teacher, NO_BOXES).item() == pytest.approx(3 / 4, rel=1e-5)
    both = PKD(2)(torch.cat([opposite, unrelated], 1), teacher.expand(1, 2, 1, 4), NO_BOXES)
    assert both.item() == pytest.approx((2 + 1) / 2 * 3 / 4, rel=1e-5)


def test_mse_by_hand() -> None:
    assert MSE(1)(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]]]), NO_BOXES).item() == 5.0


def test_cwd_by_hand() -> None:
    teacher = torch.tensor([[[[math.log(3.0), 0.0]]]])  # shares 3/4 and 1/4 of the channel
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert CWD(1)(torch.zeros(1, 1, 1, 2), teacher, NO_BOXES).item() == pytest.approx(expected, rel=1e-5)
    warm = CWD(1, temperature=2.0)(torch.zeros(1, 1, 1, 2), 2 * teacher, NO_BOXES)
    assert warm.item() == pytest.approx(4 * expected, rel=1e-5)


@pytest.mark.parametrize("name", ["pkd", "mse", "cwd", "fgd"])
def test_equal_features_lose_nothing(name: str) -> None:
    loss = build_feature_loss(name, 4)
    student = features(0, channels=4)
    assert loss(student, student.clone(), LEFT_HALF).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "foreground_only"),
    [(name, only) for name in NAMES for only in (False, True) if not (only and name == "fgd")],
)
def test_gradients_are_right(name: str, foreground_only: bool) -> None:
    torch.manual_seed(0)
    loss = build_feature_loss(name, 4, foreground_only=foreground_only).double()
    for parameter in loss.parameters():  # zero-initialised layers would hide what lies behind them
        torch.nn.init.normal_(parameter, std=0.5)
    teacher = features(1, channels=4, dtype=torch.float64)
    scale = 1e5 if name in {"fgd", "mgd"} else 1.0  # their published weights are near gradcheck's tolerance

    def value(student: Tensor) -> Tensor:
        torch.manual_seed(3)  # MGD draws its mask
        return scale * loss(student, teacher, LEFT_HALF)

    assert torch.autograd.gradcheck(
        value, features(0, channels=4, dtype=torch.float64).requires_grad_(), fast_mode=True
    )


@pytest.mark.parametrize("name", sorted({*NAMES} - {"fgd", "mgd"}))
def test_foreground_only_is_the_loss_of_what_the_boxes_touch(name: str) -> None:
    """Cells outside the boxes, and images without one, may hold anything."""
    loss = build_feature_loss(name, 3, foreground_only=True)
    student, teacher = features(0), features(1)
    whole = build_feature_loss(name, 3)(student[:1, ..., :2], teacher[:1, ..., :2], NO_BOXES[:1])
    assert loss(student, teacher, LEFT_HALF).item() == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"fgd"}))
def test_without_foreground_there_is_nothing_to_learn(name: str) -> None:
    """And every parameter has a gradient of 0, which the other processes of distributed training wait for."""
    student = features(0).requires_grad_()
    module = build_feature_loss(name, 3, foreground_only=True)
    loss = module(student, features(1), NO_BOXES)
    loss.backward()
    assert loss.item() == 0
    for gradient in (student.grad, *(parameter.grad for parameter in module.parameters())):
        assert gradient is not None
        assert not gradient.any()


@pytest.mark.parametrize("name", sorted({*NAMES} - {"fgd"}))
def test_one_cell_of_a_channel_without_variance_is_no_nan(name: str) -> None:
    student = torch.zeros(1, 3, 3, 4).requires_grad_()
    loss = build_feature_loss(name, 3, foreground_only=True)(
        student, features(1)[:1], [torch.tensor([[0.0, 0.0, 1.0, 1.0]])]
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_float32_under_bfloat16(name: str) -> None:
    loss = build_feature_loss(name, 4)
    assert (
        loss(features(0, channels=4).bfloat16(), features(1, channels=4).bfloat16(), LEFT_HALF).dtype == torch.float32
    )


@pytest.mark.parametrize(
    ("name", "foreground_only"),
    [(name, only) for name in NAMES for only in (False, True) if not (only and name == "fgd")],
)
def test_no_loss_waits_for_the_device(name: str, foreground_only: bool) -> None:
    """Tensors on "meta" have no values: whoever asks for one, as waiting for a GPU does, gets an error."""
    loss = build_feature_loss(name, 3, foreground_only=foreground_only).to("meta")
    student = features(0).to("meta").requires_grad_()
    value = loss(student, features(1).to("meta"), [boxes.to("meta") for boxes in LEFT_HALF])
    value.backward()
    assert value.shape == ()
    assert student.grad is not None
