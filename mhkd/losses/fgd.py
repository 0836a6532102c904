"""FGD, focal and global distillation of one pyramid level.

Z. Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022. Shapes as in
:mod:`mhkd.losses.feature`. Sums and weights are the paper's (those for two-stage detectors), so the loss grows with
the number of channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mhkd.losses.feature import FeatureLoss
from mhkd.losses.precision import full_precision
from mhkd.losses.regions import inverse_areas
from mhkd.losses.registry import FEATURE_LOSSES
from preprocess.base.errors import UserError

ATTENTION_TEMPERATURE = 0.5
FOREGROUND, BACKGROUND, ATTENTION, RELATION = 5e-5, 2.5e-5, 5e-5, 5e-7
"""The paper's alpha, beta, gamma and lambda for two-stage detectors."""


class GlobalContext(nn.Module):
    """GcBlock (Cao et al. 2019): each cell plus one transformed, attention-pooled context of the whole image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.attention = nn.Conv2d(channels, 1, 1)
        last = nn.Conv2d(hidden, channels, 1)
        self.transform = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(inplace=True), last
        )
        nn.init.kaiming_normal_(self.attention.weight)
        for zero in (self.attention.bias, last.weight, last.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        shares = self.attention(features).flatten(2).softmax(dim=-1)  # (N, 1, H * W)
        context = (features.flatten(2) * shares).sum(dim=-1)[:, :, None, None]
        return features + self.transform(context)


@FEATURE_LOSSES.register("fgd")
class FGD(FeatureLoss):
    """Foreground and background apart, both under the teacher's attention, plus attention and relation terms.

    The relation blocks of student and teacher train with the student. They begin as the identity, so that the loss
    of equal features begins at 0.
    """

    def __init__(self, channels: int, *, foreground_only: bool = False) -> None:
        if foreground_only:
            raise UserError(
                "MODEL.MHKD.FEATURE_FOREGROUND is on, and FGD weighs foreground and background itself",
                remedy="switch it off, or use another MODEL.MHKD.FEATURE_LOSS",
            )
        super().__init__(channels)
        self.student_context = GlobalContext(channels)
        self.teacher_context = GlobalContext(channels)

    def forward(self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        student, teacher = full_precision(student), full_precision(teacher)
        count = len(student)
        foreground = inverse_areas(boxes, *student.shape[-2:]).to(student)
        outside = (foreground == 0).to(student)
        background = outside / outside.sum(dim=(1, 2), keepdim=True).clamp(min=1)

        student_cells, student_channels = attention(student)
        teacher_cells, teacher_channels = attention(teacher)
        # (N, H, W): squared errors under the teacher's channel and spatial attention.
        errors = ((student - teacher).square() * teacher_channels[:, :, None, None]).sum(dim=1) * teacher_cells
        focal = FOREGROUND * (errors * foreground).sum() + BACKGROUND * (errors * background).sum()
        gaps = (student_cells - teacher_cells).abs().sum() + (student_channels - teacher_channels).abs().sum()
        relation = functional.mse_loss(self.student_context(student), self.teacher_context(teacher), reduction="sum")
        return (focal + ATTENTION * gaps + RELATION * relation) / count


def attention(features: Tensor) -> tuple[Tensor, Tensor]:
    """Spatial (N, H, W) and channel (N, C) attention: softmax of the mean absolute feature, with a mean of 1."""
    count, channels, height, width = features.shape
    magnitude = features.abs()
    spatial = torch.softmax(magnitude.mean(dim=1).flatten(1) / ATTENTION_TEMPERATURE, dim=1)
    channel = torch.softmax(magnitude.mean(dim=(2, 3)) / ATTENTION_TEMPERATURE, dim=1)
    return (height * width * spatial).view(count, height, width), channels * channel
