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
        return self.compare(student, teacher, mask)

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        """The loss on the cells of ``mask`` (N, H, W), all cells where it is None.

        A mask without a cell must give a 0 with a gradient for every parameter of the loss, because in distributed
        training the other processes wait for that. To look into the mask would be to wait for the device.
        """
        raise NotImplementedError


def cells(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N H W, C), a row a cell; no copy of channels-last features."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def standardized(rows: Tensor, weights: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """(M, C): each channel at zero mean and unit variance, of the rows that have a weight of 1 in ``weights`` (M, 1).

    Without ``weights`` of all rows. Fewer than two of them have no variance.
    """
    if weights is None:
        std, mean = torch.std_mean(rows, dim=0, keepdim=True)
        return (rows - mean) / (std + eps)
    count = weights.sum()
    centred = rows - (rows * weights).sum(dim=0) / count.clamp(min=1)
    variance = (centred.square() * weights).sum(dim=0) / (count - 1).clamp(min=1)
    return centred / (variance.clamp(min=1e-20).sqrt() + eps)  # a root of 0 has no gradient


def masked_mean_square(student: Tensor, teacher: Tensor, weights: Tensor | None) -> Tensor:
    """Mean squared error of rows (M, C) with a weight of 1 in ``weights`` (M, 1), all rows without it; 0 of none."""
    if weights is None:
        return functional.mse_loss(student, teacher)
    errors = (student - teacher).square() * weights
    return errors.sum() / (weights.sum() * student.shape[1]).clamp(min=1)


@FEATURE_LOSSES.register("pkd")
class PKD(FeatureLoss):
    """Half the mean squared error of standardised features: 1 - Pearson correlation, channel by channel.

    W. Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
    NeurIPS 2022.
    """

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        ours, theirs = cells(student), cells(teacher)
        if len(ours) < 2:  # one cell has no variance
            return student.sum() * 0
        if mask is None:
            return 0.5 * functional.mse_loss(standardized(ours), standardized(theirs))
        weights = mask.flatten()[:, None].to(ours.dtype)
        loss = masked_mean_square(standardized(ours, weights), standardized(theirs, weights), weights)
        return 0.5 * loss * (weights.sum() > 1)


@FEATURE_LOSSES.register("mse")
class MSE(FeatureLoss):
    """Mean squared error of the features as they are."""

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        weights = None if mask is None else mask.flatten()[:, None].to(student.dtype)
        return masked_mean_square(cells(student), cells(teacher), weights)


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
        divergence = (theirs.exp() * (theirs - ours)).sum(dim=-1)  # (N, C)
        if mask is None:
            return self.temperature**2 * divergence.mean()
        has_cells = mask.flatten(1).any(dim=1).to(divergence.dtype)
        mean = (divergence * has_cells[:, None]).sum() / (has_cells.sum() * divergence.shape[1]).clamp(min=1)
        return self.temperature**2 * mean

    def _log_shares(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """(N, C, H * W) log of each cell's share in its channel, among the cells of ``mask``."""
        scaled = features.flatten(2) / self.temperature
        if mask is not None:
            scaled = scaled.masked_fill(~mask.flatten(1)[:, None], FILL)
        return functional.log_softmax(scaled, dim=-1)
