"""Global feature distillation (phases 1 and 2): one pyramid level of the student towards that of the teacher.

Shapes: features (N, C, H, W), the same for both; ``boxes`` as in :mod:`mhkd.losses.regions`, the ground truth of
each image. Every loss is a module called ``loss(student, teacher, boxes)``: some have parameters of their own, which
train with the student and are no part of it. Losses compute in float32 (float64 where that is given).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mhkd.losses.precision import full_precision
from mhkd.losses.regions import inverse_areas
from mhkd.losses.registry import FEATURE_LOSSES

FILL = -1e4
"""Stands for minus infinity under a softmax: its exponential is 0 in float32, and differences stay finite."""


class FeatureLoss(nn.Module):
    """What the feature losses share: precision, and the choice of cells.

    With ``foreground_only`` a loss looks at the cells that a ground-truth box touches, and a batch without any
    gives 0.
    """

    def __init__(self, channels: int, *, foreground_only: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.foreground_only = foreground_only

    def forward(self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        student, teacher = full_precision(student), full_precision(teacher)
        mask = None
        if self.foreground_only:
            mask = (inverse_areas(boxes, *student.shape[-2:]) > 0).to(student.device)
            if not mask.any():
                return student.sum() * 0
        return self.compare(student, teacher, mask)

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        """The loss on the cells of ``mask`` (N, H, W), all cells where it is None."""
        raise NotImplementedError


def cells(features: Tensor, mask: Tensor | None) -> Tensor:
    """(N, C, H, W) -> (M, C), the M cells of ``mask``; no copy of channels-last features without a mask."""
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)
    return rows if mask is None else rows[mask.flatten()]


def standardized(rows: Tensor, eps: float = 1e-6) -> Tensor:
    """(M, C): each channel at zero mean and unit variance."""
    std, mean = torch.std_mean(rows, dim=0, keepdim=True)
    return (rows - mean) / (std + eps)


@FEATURE_LOSSES.register("pkd")
class PKD(FeatureLoss):
    """Half the mean squared error of standardised features: 1 - Pearson correlation, channel by channel.

    W. Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
    NeurIPS 2022.
    """

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        ours, theirs = cells(student, mask), cells(teacher, mask)
        if len(ours) < 2:  # one cell has no variance
            return student.sum() * 0
        return 0.5 * functional.mse_loss(standardized(ours), standardized(theirs))


@FEATURE_LOSSES.register("mse")
class MSE(FeatureLoss):
    """Mean squared error of the features as they are."""

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        return functional.mse_loss(cells(student, mask), cells(teacher, mask))


@FEATURE_LOSSES.register("cwd")
class CWD(FeatureLoss):
    """T^2 * KL of each channel's softmax over the image, mean over images and channels.

    C. Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021.
    """

    def __init__(self, channels: int, *, foreground_only: bool = False, temperature: float = 1.0) -> None:
        super().__init__(channels, foreground_only=foreground_only)
        self.temperature = temperature

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        ours, theirs = (self._log_shares(features, mask) for features in (student, teacher))
        divergence = (theirs.exp() * (theirs - ours)).sum(dim=-1)
        return self.temperature**2 * divergence.mean()

    def _log_shares(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """(N', C, H * W) log of each cell's share in its channel; images without a cell in ``mask`` are left out."""
        scaled = features.flatten(2) / self.temperature
        if mask is not None:
            flat = mask.flatten(1)
            kept = flat.any(dim=1)
            scaled = scaled[kept].masked_fill(~flat[kept][:, None], FILL)
        return functional.log_softmax(scaled, dim=-1)
