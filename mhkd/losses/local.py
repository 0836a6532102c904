"""Local feature distillation (phase 3): pooled RoI features f_LL towards f_HL.

Shapes: pooled features (R, C, 7, 7), foreground mask (R,).
"""

from __future__ import annotations

from torch import Tensor

from mhkd.losses.precision import full_precision


def local_loss(student: Tensor, teacher: Tensor, foreground: Tensor) -> Tensor:
    """0.5 * MSE over foreground RoIs + 0.5 * MSE over background RoIs, each by its own count.

    The equal halves keep the few glomeruli from drowning in background. A group without RoIs adds nothing.
    """
    per_roi = (full_precision(student) - full_precision(teacher)).square().flatten(1).mean(dim=1)
    weights = foreground.to(per_roi.dtype), (~foreground).to(per_roi.dtype)
    return sum((0.5 * (per_roi * group).sum() / group.sum().clamp(min=1) for group in weights), per_roi.new_zeros(()))
