"""The one switch for the precision of networks: MODEL.MHKD.PRECISION."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from preprocess.base.errors import UserError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

LAST_LAYERS = ("objectness_logits", "anchor_deltas", "cls_score", "bbox_pred", "ctrness")
"""What Detectron2 calls the last layers of the RPN, of box heads and of dense heads."""


def bf16_is_native(device_type: str) -> bool:
    """Whether bfloat16 arithmetic is native (on CPUs: AMX or AVX512-BF16), not emulated and slower."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def resolve_precision(setting: str, device_type: str) -> torch.dtype:
    """What MODEL.MHKD.PRECISION means on this machine.

    Args:
        setting: "float32", "bfloat16", "float16", or "auto": bfloat16 where the hardware computes it natively.
        device_type: "cpu" or "cuda".

    Raises:
        UserError: another setting, or float16 on a CPU.
    """
    if setting == "auto":
        return torch.bfloat16 if bf16_is_native(device_type) else torch.float32
    if setting not in PRECISIONS:
        raise UserError(f"MODEL.MHKD.PRECISION is {setting!r}", remedy=f"use one of {', '.join(['auto', *PRECISIONS])}")
    if setting == "float16" and device_type != "cuda":
        raise UserError(
            f"MODEL.MHKD.PRECISION is float16, and the device is {device_type}",
            remedy="use bfloat16 or float32: float16 is for GPUs",
        )
    return PRECISIONS[setting]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """An autocast context to ``dtype`` on ``device``; one that does nothing for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def name_of(dtype: torch.dtype) -> str:
    """What MODEL.MHKD.PRECISION calls ``dtype``."""
    return str(dtype).removeprefix("torch.")


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
