"""Strided convolutions that pad as TensorFlow does, without a padded copy of their input.

On an even side TensorFlow pads one pixel more right and below than left and above, which torch can only do by copying
the features: at a tile of 1024 px 50 MB, a tenth of a detector's time. Here the kernel gets a row and a column of zeros
on top and on the left instead, and all sides are padded alike: the same sums, to the bit.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from mhkd.deploy.cpu.frozen_norm import FoldedConv


class EvenlyPaddedConv(nn.Module):
    """``conv``, a convolution of stride 2 with a frozen kernel, that pads as TensorFlow does.

    Features (N, C, H, W) -> (N, C', H', W').

    What a side of odd length needs is even already, and goes through ``conv`` itself.
    """

    def __init__(self, conv: FoldedConv) -> None:
        super().__init__()
        self.conv = conv
        self.weight = nn.Parameter(functional.pad(conv.weight.detach(), (1, 0, 1, 0)), requires_grad=False)
        self.padding = [(side - 1) // 2 for side in conv.kernel_size]

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether ``module`` can be put in this form; one whose kernel is not frozen cannot."""
        if not isinstance(module, FoldedConv) or not module.same or module.bias is None:
            return False
        odd = all(side % 2 and side > 1 for side in module.kernel_size)
        return odd and tuple(module.stride) == (2, 2) and tuple(module.dilation) == (1, 1)

    def forward(self, features: Tensor) -> Tensor:
        if any(int(side) % 2 for side in features.shape[2:]):
            return self.conv(features)
        conv = self.conv
        return functional.conv2d(features, self.weight, conv.bias, conv.stride, self.padding, 1, conv.groups)


def pad_evenly(network: Any) -> int:
    """Put every convolution of ``network`` that can be into that form, in place; how many. Its kernels are frozen."""
    paths = [path for path, module in network.named_modules() if EvenlyPaddedConv.fits(module)]
    for path in paths:
        network.set_submodule(path, EvenlyPaddedConv(network.get_submodule(path)))
    return len(paths)
