"""What every detector that sees low magnification has in common: up-sampled input, optional BFA, mixed precision."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional

from mhkd.modeling.bfa import PyramidBFA
from mhkd.modeling.box_weights import weigh_boxes
from mhkd.modeling.ignored import GroundTruth, leave_ignored_out
from mhkd.modeling.precision import autocast, keep_last_layers_in_float32, resolve_precision
from preprocess.base.errors import UserError


class Upsampled(nn.Module):
    """Stands before a Detectron2 detector with a pyramid (a mixin): the input is up-sampled first.

    Boxes in and out are in pixels of the image as given; the up-sampled frame stays inside. With ``upsample=1`` and no
    BFA it is the detector of Detectron2, weights and all.
    """

    interpolation = "bilinear"
    """How the input is up-sampled: a mode of torch's ``interpolate`` for pictures."""

    backbone: Any
    pixel_mean: Any
    pixel_std: Any
    device: Any
    _move_to_current_device: Any

    @configurable
    def __init__(
        self, *, upsample: int = 1, bfa: PyramidBFA | None = None, precision: str = "auto", **detector: Any
    ) -> None:
        """
        Args:
            upsample: factor by which both image sides grow before the backbone (bilinear).
            bfa: adapters for the pyramid; None for none.
            precision: of the network, see mhkd/modeling/precision.py.
            detector: the arguments of the detector behind.
        """
        super().__init__(**detector)
        self.upsample = upsample
        self.bfa = bfa if bfa is not None else PyramidBFA({})
        self.uses_bfa = True
        self.precision = precision
        leave_ignored_out(self)
        weigh_boxes(self)
        keep_last_layers_in_float32(self)

    def task_losses(
        self, images: ImageList, features: dict[str, Tensor], ground_truth: list[Instances]
    ) -> dict[str, Tensor]:
        """The detection losses on the pyramid ``features``; everything in the up-sampled frame."""
        raise NotImplementedError

    def detect(self, images: ImageList, features: dict[str, Tensor]) -> list[Instances]:
        """Detections on the pyramid ``features``, an entry an image, in the up-sampled frame."""
        raise NotImplementedError

    def autocast(self) -> Any:
        """The mixed-precision context every forward of this detector runs in."""
        return autocast(self.device, resolve_precision(self.precision, self.device.type))

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise, up-sample, pad and batch: uint8 (3, h, w) images -> (N, 3, u*h, u*w) plus padding."""
        images = [self._move_to_current_device(x["image"]) for x in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        if self.upsample != 1:
            images = [
                functional.interpolate(image[None], scale_factor=self.upsample, mode=self.interpolation)[0]
                for image in images
            ]
        batch = ImageList.from_tensors(
            images, self.backbone.size_divisibility, padding_constraints=self.backbone.padding_constraints
        )
        batch.tensor = batch.tensor.contiguous(memory_format=torch.channels_last)
        return batch

    def upsampled_ground_truth(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        """The inputs' ``instances`` and ``ignored_boxes`` on the model's device, boxes in the up-sampled frame.

        Inputs without ``ignored_boxes`` have none.
        """
        scaled: list[Instances] = []
        for item in batched_inputs:
            given = item["instances"].to(self.device)
            height, width = given.image_size
            boxes = given.gt_boxes.clone()
            boxes.scale(self.upsample, self.upsample)
            ignored = item["ignored_boxes"].tensor.to(boxes.tensor) if "ignored_boxes" in item else boxes.tensor[:0]
            size = height * self.upsample, width * self.upsample
            fields = {**given.get_fields(), "gt_boxes": boxes}
            scaled.append(GroundTruth(size, ignored=Boxes(ignored * self.upsample), **fields))
        return scaled

    def features(self, images: ImageList) -> dict[str, Tensor]:
        """The pyramid that the heads read (f_L' of the paper where there is a BFA, else f_L)."""
        return self.adapt(self.backbone(images.tensor))

    def adapt(self, pyramid: dict[str, Tensor]) -> dict[str, Tensor]:
        """``pyramid`` through the BFA; as it is before the phase of training in which the BFA begins."""
        return self.bfa(pyramid) if self.uses_bfa else pyramid

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """A dict of losses in training, a list of ``{"instances": Instances}`` otherwise.

        Detections are in pixels of the given images (of ``height``, ``width`` where the inputs name them).
        """
        with self.autocast():
            images = self.preprocess_image(batched_inputs)
            features = self.features(images)
            if self.training:
                return self.task_losses(images, features, self.upsampled_ground_truth(batched_inputs))
            found = self.detect(images, features)
        # From the up-sampled frame to the output size.
        sizes = [(x.get("height", x["image"].shape[1]), x.get("width", x["image"].shape[2])) for x in batched_inputs]
        return [{"instances": detector_postprocess(x, *size)} for x, size in zip(found, sizes, strict=True)]


def upsampling_arguments(cfg: CfgNode, detector: dict[str, Any], levels: list[str]) -> dict[str, Any]:
    """``detector``, a detector's arguments, with those of :class:`Upsampled`.

    Args:
        levels: that a head reads; a BFA on any other would never get a gradient.
    """
    settings = cfg.MODEL.MHKD
    channels = {level: spec.channels for level, spec in detector["backbone"].output_shape().items() if level in levels}
    return {
        **detector,
        "upsample": settings.UPSAMPLE,
        "bfa": PyramidBFA(channels, settings.BFA.BOTTLENECK) if settings.BFA.ENABLED else None,
        "precision": settings.PRECISION,
    }


def build_student(cfg: CfgNode) -> Upsampled:
    """The student of a distiller: the detector that MODEL.MHKD.STUDENT names.

    Raises:
        UserError: it names no detector with an up-sampled input.
    """
    known = {name: kind for name, kind in META_ARCH_REGISTRY if issubclass(kind, Upsampled)}
    name = cfg.MODEL.MHKD.STUDENT
    if name not in known:
        raise UserError(f"MODEL.MHKD.STUDENT is {name!r}", remedy=f"use one of {', '.join(known)}")
    return known[name](cfg)


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

    def detect(self, images: ImageList, features: dict[str, Tensor]) -> list[Instances]:
        proposals, _ = self.proposal_generator(images, features, None)
        return self.roi_heads(images, features, proposals, None)[0]

    def inference(self, batched_inputs: list[dict[str, Any]], *_: Any, **__: Any) -> Any:
        """Detectron2's name for what is ``model.eval()(inputs)`` here; its boxes would be in the up-sampled frame."""
        raise NotImplementedError("call the model in evaluation mode")
