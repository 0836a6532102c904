"""Local feature distillation (phase 3): pooled RoI features f_LL towards f_HL.

Shapes: pooled features (R, C, 7, 7), foreground mask (R,).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from mhkd.losses.precision import full_precision


def local_loss(student: Tensor, teacher: Tensor, foreground: Tensor) -> Tensor:
    """0.5 * MSE over foreground RoIs + 0.5 * MSE over background RoIs, each by its own count.

    The equal halves keep the few glomeruli from drowning in background. A group without RoIs adds nothing.
    """
    # One pass over each, in whatever order their memory has; flattening them would copy.
    per_roi = mse_loss(full_precision(student), full_precision(teacher), reduction="none").mean(dim=(1, 2, 3))
    weights = foreground.to(per_roi.dtype), (~foreground).to(per_roi.dtype)
    return sum((0.5 * (per_roi * group).sum() / group.sum().clamp(min=1) for group in weights), per_roi.new_zeros(()))
