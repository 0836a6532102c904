"""bfloat16 where the hardware computes it natively, float32 elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


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
