"""Convolutions that pad as TensorFlow does compute the same in another form."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from mhkd.deploy.cpu.compiled import freeze_convolutions
from mhkd.deploy.cpu.frozen_norm import FoldedConv, FoldedNorm
from mhkd.deploy.cpu.same_padding import EvenlyPaddedConv, pad_evenly


def folded(kernel: int, **options: int) -> FoldedConv:
    torch.manual_seed(kernel)
    norm = nn.BatchNorm2d(8)
    norm.running_mean.copy_(torch.randn(8))
    conv = FoldedConv(Conv2dSame(8, 8, kernel, bias=False, **options), FoldedNorm(norm))
    conv.freeze_kernel()
    return conv


@pytest.mark.parametrize("sides", [(32, 48), (31, 48), (32, 33), (17, 15)])
@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("kernel", [3, 5])
def test_even_padding_computes_the_same(kernel, groups, sides):
    network = nn.Sequential(folded(kernel, stride=2, groups=groups))
    x = torch.randn(2, 8, *sides)
    with torch.no_grad():
        expected = network(x)
        assert pad_evenly(network) == 1
        assert isinstance(network[0], EvenlyPaddedConv)
        torch.testing.assert_close(network(x), expected, atol=1e-6, rtol=1e-6)


def test_other_convolutions_stay():
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2), folded(3, stride=1), folded(2, stride=2), folded(3, stride=3))
    assert pad_evenly(plain) == 0


def test_the_convolutions_of_a_frozen_detector_pad_evenly(detector):
    frozen = freeze_convolutions(detector.model, dtype=torch.float32)
    assert sum(isinstance(module, EvenlyPaddedConv) for module in frozen.modules()) > 2
