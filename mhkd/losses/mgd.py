"""MGD, masked generative distillation of one pyramid level.

Z. Yang et al., "Masked Generative Distillation", ECCV 2022. Shapes as in :mod:`mhkd.losses.feature`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mhkd.losses.feature import FeatureLoss
from mhkd.losses.registry import FEATURE_LOSSES

MASKED_SHARE, ALPHA = 0.45, 5e-7
"""The paper's lambda and alpha for two-stage detectors."""


@FEATURE_LOSSES.register("mgd")
class MGD(FeatureLoss):
    """The teacher's features generated from the student's with random cells hidden: sum of squared errors / N.

    The generator trains with the student. The loss of equal features is not 0: what is hidden has to be generated.
    """

    def __init__(self, channels: int, *, foreground_only: bool = False) -> None:
        super().__init__(channels, foreground_only=foreground_only)
        self.generator = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        count, _, height, width = student.shape
        visible = torch.rand(count, 1, height, width, device=student.device) >= MASKED_SHARE
        errors = (self.generator(student * visible) - teacher).square()
        if mask is not None:
            errors = errors * mask[:, None]
        return ALPHA * errors.sum() / count
