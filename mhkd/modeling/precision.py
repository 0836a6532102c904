"""bfloat16 where the hardware computes it natively, float32 elsewhere and in the last layer of every head."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

LAST_LAYERS = ("objectness_logits", "anchor_deltas", "cls_score", "bbox_pred", "ctrness")
"""What Detectron2 calls the last layers of the RPN, of box heads and of dense heads."""


def bf16_is_native(device_type: str) -> bool:
    """Whether bfloat16 arithmetic is native (on CPUs: AMX or AVX512-BF16), not emulated and slower."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def resolve_bf16(setting: str, device_type: str) -> bool:
    """Turn the config's "auto", "on" or "off" into a decision for this machine."""
    choices = {"on": True, "off": False}
    if setting not in {"auto", *choices}:
        raise ValueError(f'MODEL.MHKD.BF16 must be "auto", "on" or "off", not {setting!r}')
    return choices[setting] if setting in choices else bf16_is_native(device_type)


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[object]:
    """A bfloat16 autocast context for ``device``, or one that does nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if enabled else nullcontext()


class Float32Conv2d(nn.Conv2d):
    """A convolution that computes in float32 under any autocast, whatever the precision of its input."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 under any autocast, whatever the precision of its input."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


FLOAT32_LAYERS = (Float32Conv2d, Float32Linear)


def keep_last_layers_in_float32(detector: nn.Module) -> None:
    """Let the last layer of every head of ``detector`` compute in float32, in place; parameters and their names stay.

    In bfloat16 a score would tie with many others, and an edge several strides away would be off by up to 1/64 of a
    stride. Doing it twice is doing it once.
    """
    for parent in list(detector.modules()):
        for name, layer in list(parent.named_children()):
            if name in LAST_LAYERS and type(layer) in (nn.Conv2d, nn.Linear):
                setattr(parent, name, _float32(layer))


def _float32(layer: Any) -> nn.Module:
    """The layer that computes as ``layer`` does, in float32, with the parameters of ``layer`` itself."""
    has_bias = layer.bias is not None
    # On the device "meta" a layer is made without memory and without a draw of the random generator.
    if isinstance(layer, nn.Linear):
        exact: Any = Float32Linear(layer.in_features, layer.out_features, bias=has_bias, device="meta")
    else:
        exact = Float32Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            has_bias,
            layer.padding_mode,
            device="meta",
        )
    exact.weight, exact.bias = layer.weight, layer.bias
    return exact
