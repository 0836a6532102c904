"""Frozen BatchNorm folded into the convolution before it: the same numbers without a pass over the features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

import torch
from timm.layers.padding import pad_same
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class FoldedNorm(nn.Module):
    """The statistics of a frozen BatchNorm under its own names, and the activation that timm keeps in it.

    features (N, C, H, W), normalised already, in and out.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        # Sequential would rename what is inside; neither of the two has weights.
        self.drop: nn.Module = getattr(norm, "drop", nn.Identity())
        self.act: nn.Module = getattr(norm, "act", nn.Identity())

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) each: what normalisation multiplies by and adds."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, features: Tensor) -> Tensor:
        return self.act(self.drop(features))


class FoldedConv(nn.Conv2d):
    """A convolution and the frozen BatchNorm behind it in one; its weight learns as before, under its own name.

    The norm stays where it stands in the network: here is no more than a way to it; None for a convolution without one.
    Under bfloat16 autocast a depthwise convolution that has a gradient runs in float32: its bfloat16 gradient is so
    slow on CPUs that a whole step of EfficientNet-Lite0 is a fifth faster this way.
    """

    def __init__(self, conv: nn.Conv2d, norm: FoldedNorm | None) -> None:
        same = type(conv) is not nn.Conv2d
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            bias=False,
            device="meta",
        )
        self.weight, self.bias, self.same = conv.weight, conv.bias, same
        # In a tuple it is not registered a second time.
        self._norm: tuple[FoldedNorm] | None = None if norm is None else (norm,)

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the two in one."""
        if self._norm is None:
            return self.weight, self.bias
        scale, shift = self._norm[0].scale_and_shift()
        return self.weight * scale[:, None, None, None], shift

    def freeze_kernel(self) -> None:
        """Keep the kernel as it is now, for a network that learns no more and may change its precision."""
        weight, bias = (None if x is None else nn.Parameter(x.detach(), requires_grad=False) for x in self.kernel())
        self.weight, self.bias, self._norm = weight, bias, None  # type: ignore[assignment]

    def forward(self, features: Tensor) -> Tensor:
        learns = torch.is_grad_enabled() and (features.requires_grad or self.weight.requires_grad)
        if not (learns and is_depthwise(self)):
            return self._convolve(features)
        with torch.autocast("cpu", enabled=False):
            return self._convolve(features.float() if features.dtype == torch.bfloat16 else features)

    def _convolve(self, features: Tensor) -> Tensor:
        weight, bias = self.kernel()
        if self.same:
            features = pad_same(features, self.kernel_size, self.stride, self.dilation)  # type: ignore[arg-type]
        return functional.conv2d(features, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether each channel is convolved by itself."""
    return conv.groups == conv.in_channels > 1


def fold_frozen_norms(network: nn.Module) -> None:
    """Fold every BatchNorm of ``network``, in place, that is all that reads the output of a convolution.

    Depthwise convolutions without one are put into the same form. The names and shapes of weights and statistics stay.
    Norms must be frozen for good. Networks that torch.fx cannot trace, and convolutions of an unknown kind, stay as
    they are.
    """
    for conv_path, norm_path in list(_pairs(network)):
        norm = FoldedNorm(network.get_submodule(norm_path))  # type: ignore[arg-type]
        conv = FoldedConv(network.get_submodule(conv_path), norm)  # type: ignore[arg-type]
        network.set_submodule(norm_path, norm)
        network.set_submodule(conv_path, conv)
    for path, module in list(network.named_modules()):
        if _is_known(module) and is_depthwise(module):
            network.set_submodule(path, FoldedConv(module, None))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, _BatchNorm)) or super().is_leaf_module(m, module_qualified_name)


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Paths of a convolution and of the BatchNorm that alone reads it, each called once."""
    try:
        calls = [node for node in _Tracer().trace(network).nodes if node.op == "call_module"]
    except Exception:  # a network with control flow that tracing cannot follow, for any reason of its own
        return
    paths = [node.target for node in calls]
    for node in calls:
        norm = network.get_submodule(str(node.target))
        source = node.all_input_nodes[0]
        if not isinstance(norm, _BatchNorm) or source not in calls or len(source.users) != 1:
            continue
        conv = network.get_submodule(str(source.target))
        frozen = norm.track_running_stats and norm.affine
        called_once = paths.count(node.target) == paths.count(source.target) == 1
        if _is_known(conv) and conv.bias is None and frozen and called_once:
            yield str(source.target), str(node.target)


def _is_known(module: Any) -> TypeGuard[nn.Conv2d]:
    """Whether ``module`` is a convolution of a kind that :class:`FoldedConv` computes."""
    return (type(module) is nn.Conv2d and module.padding_mode == "zeros") or type(module).__name__ == "Conv2dSame"
