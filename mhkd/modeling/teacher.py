"""The frozen high-magnification teacher."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes
from torch import Tensor, nn


class Teacher(nn.Module):
    """A detector that only answers: no gradient, never in training mode.

    ``train()`` is overridden, because a trainer's ``model.train()`` reaches every sub-module.
    """

    def __init__(self, detector: GeneralizedRCNN) -> None:
        super().__init__()
        self.detector = detector
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Teacher:
        return super().train(False)

    @torch.no_grad()
    def pyramid(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """f_H: the pyramid of the pairs' ``teacher_image``."""
        images = self.detector.preprocess_image([{"image": x["teacher_image"]} for x in batched_inputs])
        return self.detector.backbone(images.tensor)

    @torch.no_grad()
    def pool(self, pyramid: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
        """f_HL: RoIAlign of f_H on ``boxes`` (teacher pixels, one entry an image) -> (R, C, 7, 7)."""
        heads = self.roi_heads
        return heads.box_pooler([pyramid[f] for f in heads.box_in_features], boxes)

    @torch.no_grad()
    def predict(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """O_H: class logits (R, K + 1) and box deltas (R, 4 or 4 K) for pooled RoI features."""
        return self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))

    @property
    def roi_heads(self) -> StandardROIHeads:
        return self.detector.roi_heads
