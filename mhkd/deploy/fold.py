"""What makes a trained detector cheaper on any device: BatchNorm inside the convolutions, weights in their precision.

A network that learns no more need not normalise in a pass of its own, and under autocast need not convert its weights
again for every batch. Both are done once, when it is loaded.
"""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import Backbone
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mhkd.modeling.precision import name_of

_NORMS = (_BatchNorm, FrozenBatchNorm2d)
_CAST_BY_AUTOCAST = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, Conv2d, Conv2dSame)


@runtime_checkable
class FoldsItsNorm(Protocol):
    """A convolution that folds its BatchNorm anew for each batch as long as it learns."""

    def freeze_kernel(self) -> None:
        """Keep the kernel as it is now."""


def fold_detector(model: Any, *, dtype: torch.dtype) -> bool:
    """Fold the BatchNorms of ``model``, and keep its weights in the precision that it computes in; in place.

    It runs as before, under autocast where that is not float32, and detects the same but for roundings.

    Args:
        model: a detector in evaluation mode that learns no more, on any device.
        dtype: the precision that it computes in.

    Returns:
        Whether anything was done: a detector without a backbone of Detectron2's kind is left as it is.
    """
    if not isinstance(getattr(model, "backbone", None), Backbone):
        return False
    fold_batch_norms(model.backbone)
    if hasattr(model, "precision"):
        model.precision = name_of(dtype)
        if dtype != torch.float32:
            cast_weights(model, dtype)
    model.to(memory_format=torch.channels_last)
    return True


def cast_weights(model: nn.Module, precision: torch.dtype) -> int:
    """Put weights and biases that autocast would convert for every batch into ``precision``, in place.

    Only layers of a kind that is known to run in the precision of autocast are changed; what a layer of another kind
    computes in, such as a head's last one that stays in float32, is its own affair.

    Args:
        model: a network that is run under autocast to ``precision`` alone from now on.

    Returns:
        How many layers were changed.
    """
    layers = [m for m in model.modules() if type(m) in _CAST_BY_AUTOCAST or isinstance(m, FoldsItsNorm)]
    for layer in layers:
        for name, parameter in layer.named_parameters(recurse=False):
            setattr(layer, name, nn.Parameter(parameter.detach().to(precision), requires_grad=False))
    return len(layers)


def fold_batch_norms(network: nn.Module) -> int:
    """Fold every BatchNorm of ``network`` whose input is a convolution's output into it, in place.

    Convolutions that fold their norms anew for each image while they learn are frozen, before the precision changes.
    What else follows what is seen by running ``network`` once on an image (1, 3, 64, 64). A convolution or a norm that
    runs more than once is left as it is, and an activation that a BatchNorm holds stays.

    Args:
        network: in evaluation mode; it takes images (N, 3, h, w), normalised.

    Returns:
        How many norms were folded, without those of frozen convolutions.
    """
    for module in network.modules():
        if isinstance(module, FoldsItsNorm):
            module.freeze_kernel()
    pairs = _observed_pairs(network)
    for name, convolution in pairs:
        norm = network.get_submodule(name)
        _fold(convolution, norm)
        rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
        network.set_submodule(name, nn.Sequential(*rest))
    # Detectron2's own convolutions hold the norm that follows them.
    held = [m for m in network.modules() if isinstance(m, nn.Conv2d) and isinstance(getattr(m, "norm", None), _NORMS)]
    for convolution in held:
        _fold(convolution, convolution.norm)
        cast(Any, convolution).norm = None
    return len(pairs) + len(held)


def _observed_pairs(network: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """The path of each BatchNorm that reads what a convolution gives, and that convolution; each runs once."""
    produced: dict[int, tuple[Tensor, nn.Conv2d]] = {}
    convolutions: list[nn.Conv2d] = []
    norms: list[tuple[str, nn.Conv2d | None]] = []

    def note_output(convolution: Any, _: Any, output: Tensor) -> None:
        convolutions.append(convolution)
        produced[id(output)] = output, convolution  # the output is kept, so that its id stays its own

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and getattr(module, "norm", None) is None:
            hooks.append(module.register_forward_hook(note_output))
        elif isinstance(module, _BatchNorm):
            hooks.append(
                module.register_forward_pre_hook(
                    lambda _, x, name=name: norms.append((name, produced.get(id(x[0]), (None, None))[1]))
                )
            )
    parameter = next(network.parameters())
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, 64, 64, device=parameter.device, dtype=parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    paths = [name for name, _ in norms]
    readers = [id(source) for _, source in norms]
    return [
        (name, source)
        for name, source in norms
        if source is not None
        and paths.count(name) == 1
        and sum(source is one for one in convolutions) == readers.count(id(source)) == 1
    ]


def _fold(convolution: nn.Conv2d, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    convolution.weight = nn.Parameter(weight.detach(), requires_grad=False)
    convolution.bias = nn.Parameter(bias.detach(), requires_grad=False)
