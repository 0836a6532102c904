"""Frozen BatchNorm folded into the convolution before it: the same numbers without a pass over the features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.layers.padding import pad_same
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class FoldedNorm(nn.Module):
    """The statistics of a frozen BatchNorm under its own names, and the activation that timm keeps in it.

    features (N, C, H, W), normalised already, in and out.
    """

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
        statistics: dict[str, Any] = dict(self.named_buffers(recurse=False))
        scale = self.weight * (statistics["running_var"] + self.eps).rsqrt()
        return scale, self.bias - statistics["running_mean"] * scale

    def forward(self, features: Tensor) -> Tensor:
        return self.act(self.drop(features))


class FoldedConv(nn.Conv2d):
    """A convolution and the frozen BatchNorm behind it in one; its weight learns as before.

    The norm stays where it stands in the network: here is no more than a way to it.
    """

    def __init__(self, conv: nn.Conv2d, norm: FoldedNorm) -> None:
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
        self.weight, self.same = conv.weight, same
        self._norm: tuple[FoldedNorm] | None = (norm,)  # in a tuple it is not registered a second time

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the two in one."""
        if self._norm is None:
            return self.weight, self.bias
        scale, shift = self._norm[0].scale_and_shift()
        return self.weight * scale[:, None, None, None], shift

    def settle(self) -> None:
        """Keep the kernel as it is now, for a network that learns no more and may change its precision."""
        weight, bias = (None if x is None else nn.Parameter(x.detach(), requires_grad=False) for x in self.kernel())
        self.weight, self.bias, self._norm = weight, bias, None  # type: ignore[assignment]

    def forward(self, features: Tensor) -> Tensor:
        weight, bias = self.kernel()
        if self.same:
            features = pad_same(features, self.kernel_size, self.stride, self.dilation)  # type: ignore[arg-type]
        return functional.conv2d(features, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def fold_frozen_norms(network: nn.Module) -> None:
    """Fold every BatchNorm of ``network``, in place, that is all that reads the output of a convolution.

    The names and shapes of weights and statistics stay. Norms must be frozen for good. Networks that torch.fx cannot
    trace, and convolutions of an unknown kind, are left as they are.
    """
    for conv_path, norm_path in list(_pairs(network)):
        norm = FoldedNorm(network.get_submodule(norm_path))  # type: ignore[arg-type]
        conv = FoldedConv(network.get_submodule(conv_path), norm)  # type: ignore[arg-type]
        for path, module in ((norm_path, norm), (conv_path, conv)):
            parent, _, child = path.rpartition(".")
            setattr(network.get_submodule(parent), child, module)


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
        known = (type(conv) is nn.Conv2d and conv.padding_mode == "zeros") or type(conv).__name__ == "Conv2dSame"
        frozen = norm.track_running_stats and norm.affine
        if known and frozen and conv.bias is None and paths.count(node.target) == paths.count(source.target) == 1:
            yield str(source.target), str(node.target)
