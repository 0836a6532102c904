"""The precision that losses compute in."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(values: Tensor, *, copy: bool = False) -> Tensor:
    """Half precision to float32; float32 and float64 as they are, or, with ``copy``, in memory of their own."""
    return values.to(torch.promote_types(values.dtype, torch.float32), copy=copy)
