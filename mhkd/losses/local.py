"""Local feature distillation (phase 3): pooled RoI features f_LL towards f_HL.

Shapes: pooled features (R, C, 7, 7), foreground mask (R,).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mhkd.losses.precision import full_precision


def local_loss(student: Tensor, teacher: Tensor, foreground: Tensor) -> Tensor:
    """0.5 * MSE over foreground RoIs + 0.5 * MSE over background RoIs, each by its own count.

    The equal halves keep the few glomeruli from drowning in background. A group without RoIs adds nothing. The teacher
    gets no gradient.
    """
    per_roi = _MeanSquares.apply(student, teacher)
    groups = torch.stack([foreground, ~foreground]).to(per_roi.dtype)
    shares = 0.5 * groups / groups.sum(dim=1, keepdim=True).clamp(min=1)
    return (per_roi * shares.sum(dim=0)).sum()


class _MeanSquares(torch.autograd.Function):
    """(R,) mean square of ``student`` - ``teacher``, both (R, C, H, W).

    Autograd would spell out a mean's gradient for each value, and pass over them three times more.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        difference = full_precision(student, copy=True).sub_(teacher)
        ctx.save_for_backward(difference)
        ctx.precision = student.dtype
        return torch.linalg.vector_norm(difference, dim=(1, 2, 3)).square() / difference.shape[1:].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        scale = 2.0 * gradient / difference.shape[1:].numel()
        return (difference * scale.view(-1, 1, 1, 1)).to(ctx.precision), None
