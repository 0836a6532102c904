"""The two-stage detector that sees low magnification: any Detectron2 R-CNN behind an up-sampled input."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import ImageList, Instances
from torch import Tensor

from mhkd.modeling.upsampling import Upsampled, upsampling_arguments


@META_ARCH_REGISTRY.register()
class UpsampledRCNN(Upsampled, GeneralizedRCNN):
    """A GeneralizedRCNN whose input is up-sampled first and whose pyramid may pass through BFA."""

    proposal_generator: Any
    roi_heads: Any

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        used = [*cfg.MODEL.RPN.IN_FEATURES, *cfg.MODEL.ROI_HEADS.IN_FEATURES]
        return upsampling_arguments(cfg, super().from_config(cfg), used)

    def task_losses(
        self, images: ImageList, features: dict[str, Tensor], ground_truth: list[Instances]
    ) -> dict[str, Tensor]:
        proposals, proposal_losses = self.proposal_generator(images, features, ground_truth)
        _, detector_losses = self.roi_heads(images, features, proposals, ground_truth)
        return {**proposal_losses, **detector_losses}

    def find(self, images: ImageList, features: dict[str, Tensor]) -> list[Instances]:
        proposals, _ = self.proposal_generator(images, features, None)
        return self.roi_heads(images, features, proposals, None)[0]

    def inference(self, batched_inputs: list[dict[str, Any]], *_: Any, **__: Any) -> Any:
        """Detectron2's name for what is ``model.eval()(inputs)`` here; its boxes would be in the up-sampled frame."""
        raise NotImplementedError("call the model in evaluation mode")
