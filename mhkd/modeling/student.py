"""The detector that sees low magnification: up-sampled input, optional BFA, any Detectron2 R-CNN inside."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import ImageList, Instances
from torch import Tensor
from torch.nn import functional

from mhkd.modeling.bfa import PyramidBFA
from mhkd.modeling.precision import autocast, resolve_bf16


@META_ARCH_REGISTRY.register()
class UpsampledRCNN(GeneralizedRCNN):
    """A GeneralizedRCNN whose input is up-sampled first and whose pyramid may pass through BFA.

    Boxes in and out are in pixels of the image as given; the up-sampled frame stays inside. With
    ``upsample=1`` and no BFA it is Detectron2's GeneralizedRCNN, weights and all.
    """

    @configurable
    def __init__(self, *, upsample: int = 1, bfa: PyramidBFA | None = None, bf16: str = "auto", **rcnn: Any) -> None:
        """
        Args:
            upsample: factor by which both image sides grow before the backbone (bilinear).
            bfa: adapters for the pyramid; None for none.
            bf16: "auto", "on" or "off"; see mhkd/modeling/precision.py.
            rcnn: the arguments of GeneralizedRCNN.
        """
        super().__init__(**rcnn)
        self.upsample = upsample
        self.bfa = bfa if bfa is not None else PyramidBFA({})
        self.bf16 = bf16

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = super().from_config(cfg)
        settings = cfg.MODEL.MHKD
        channels = {level: spec.channels for level, spec in arguments["backbone"].output_shape().items()}
        # Only levels that a head reads: an adapter on any other would never get a gradient.
        used = {*cfg.MODEL.RPN.IN_FEATURES, *cfg.MODEL.ROI_HEADS.IN_FEATURES}
        return {
            **arguments,
            "upsample": settings.UPSAMPLE,
            "bfa": PyramidBFA({k: c for k, c in channels.items() if k in used}, settings.BFA.BOTTLENECK)
            if settings.BFA.ENABLED
            else None,
            "bf16": settings.BF16,
        }

    def autocast(self) -> Any:
        """The mixed-precision context every forward of this detector runs in."""
        return autocast(self.device, resolve_bf16(self.bf16, self.device.type))

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise, up-sample, pad and batch: uint8 (3, h, w) images -> (N, 3, u*h, u*w) plus padding."""
        images = [self._move_to_current_device(x["image"]) for x in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        if self.upsample != 1:
            images = [
                functional.interpolate(image[None], scale_factor=self.upsample, mode="bilinear")[0] for image in images
            ]
        batch = ImageList.from_tensors(
            images, self.backbone.size_divisibility, padding_constraints=self.backbone.padding_constraints
        )
        batch.tensor = batch.tensor.contiguous(memory_format=torch.channels_last)
        return batch

    def upsampled_ground_truth(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        """The inputs' ground truth on the model's device, boxes in the up-sampled frame."""
        scaled = []
        for item in batched_inputs:
            given = item["instances"].to(self.device)
            height, width = given.image_size
            instances = Instances((height * self.upsample, width * self.upsample), **given.get_fields())
            instances.gt_boxes = given.gt_boxes.clone()
            instances.gt_boxes.scale(self.upsample, self.upsample)
            scaled.append(instances)
        return scaled

    def features(self, images: ImageList) -> dict[str, Tensor]:
        """The pyramid that the heads read (f_L' of the paper where there is a BFA, else f_L)."""
        return self.bfa(self.backbone(images.tensor))

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """A dict of losses in training, a list of ``{"instances": Instances}`` otherwise."""
        if not self.training:
            return self.inference(batched_inputs)
        with self.autocast():
            images = self.preprocess_image(batched_inputs)
            ground_truth = self.upsampled_ground_truth(batched_inputs)
            features = self.features(images)
            proposals, proposal_losses = self.proposal_generator(images, features, ground_truth)
            _, detector_losses = self.roi_heads(images, features, proposals, ground_truth)
        return {**proposal_losses, **detector_losses}

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """Detections in pixels of the given images (of ``height``, ``width`` where the inputs name them)."""
        if detected_instances is not None:
            raise NotImplementedError("UpsampledRCNN predicts boxes only")
        with self.autocast():
            images = self.preprocess_image(batched_inputs)
            features = self.features(images)
            proposals, _ = self.proposal_generator(images, features, None)
            results, _ = self.roi_heads(images, features, proposals, None)
        if not do_postprocess:
            return results
        # detector_postprocess scales from the up-sampled frame to the output size, so the size must be named.
        sized = [{"height": x["image"].shape[1], "width": x["image"].shape[2], **x} for x in batched_inputs]
        return GeneralizedRCNN._postprocess(results, sized, images.image_sizes)
