"""One-stage detectors that see low magnification: Detectron2's RetinaNet and FCOS behind an up-sampled input.

A location is one anchor of one cell of one level; FCOS has one anchor, a point, a cell. Shapes: N images, K classes, A
anchors a cell, H x W cells a level, R locations of all levels together.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils import comm
from torch import Tensor, distributed, nn

from mhkd.losses.precision import full_precision
from mhkd.modeling.box_weights import has_weights, scale_levels, weights_of
from mhkd.modeling.detectors import Upsampled, upsampling_arguments
from mhkd.modeling.ignored import label_locations

Maps = list[list[Tensor]]
"""Class logits (N, A K, H, W), box deltas (N, A 4, H, W) and, of FCOS, centerness (N, A, H, W): lists of levels."""


def pyramid_of(detector: Any, features: dict[str, Tensor]) -> list[Tensor]:
    """The levels that the head reads, in its order."""
    return [features[level] for level in detector.head_in_features]


def predict_maps(detector: Any, features: dict[str, Tensor]) -> Maps:
    """The maps that the head of ``detector`` predicts on a pyramid, by level (N, C, H, W), as float32."""
    return [[full_precision(level) for level in maps] for maps in detector.head(pyramid_of(detector, features))]


def columns_of(detector: Any, maps: Maps) -> list[int]:
    """Numbers for a location in each of ``maps``."""
    return [detector.num_classes, 4, 1][: len(maps)]


NO_LOSS = -1e4
"""A logit of which sigmoid and focal loss towards the background are exactly 0 in float32."""


class UpsampledDense(Upsampled):
    """What RetinaNet and FCOS share on top of :class:`Upsampled`.

    loss_normalizer: buffer, the running mean of the number of foreground locations in a batch, that of all processes
    together; 0 before the first batch.
    """

    loss_normalizer: Tensor
    head: nn.Module

    @configurable
    def __init__(self, **arguments: Any) -> None:
        """
        Args:
            arguments: of Upsampled and of the detector behind.
        """
        super().__init__(**arguments)
        self.register_buffer("loss_normalizer", torch.tensor(0.0))

    def _ema_update(self, name: str, value: float, initial_value: float, momentum: float = 0.9) -> Tensor:
        """Detectron2's running mean as a buffer: its plain attribute would be lost when a run is resumed."""
        mean: Tensor = getattr(self, name)
        now = mean.new_tensor(float(value))
        if comm.get_world_size() > 1:
            distributed.all_reduce(now)
        before = mean if mean > 0 else mean.new_tensor(initial_value)
        mean.copy_(before * momentum + now * (1 - momentum))
        return self.normalizer

    @property
    def normalizer(self) -> Tensor:
        """What the losses of this batch are divided by.

        The share of one process: losses and gradients, which are averaged over processes, come out as those of a
        single one with the whole batch.
        """
        return self.loss_normalizer / comm.get_world_size()

    def losses_of(
        self, features: list[Tensor], maps: Maps, ground_truth: list[Instances]
    ) -> tuple[dict[str, Tensor], tuple[list[Tensor], list[Tensor], list[Tensor]]]:
        """Detection losses of a head's ``maps``, and the targets of the head.

        Returns:
            The losses, and the targets as :func:`mhkd.modeling.ignored.label_locations` gives them.

        Raises:
            FloatingPointError: predictions that are no boxes, as a run that diverges makes them.
        """
        detector = cast(Any, self)
        anchors = detector.anchor_generator(features)
        labels, boxes, left_out = label_locations(detector, anchors, ground_truth)
        predictions = detector._transpose_dense_predictions(maps, columns_of(detector, maps))
        if has_weights(ground_truth):
            is_object = [(label >= 0) & (label < detector.num_classes) for label in labels]
            weights = torch.stack(list(map(weights_of, boxes, is_object, ground_truth)))
            predictions = [scale_levels(levels, weights) for levels in predictions]
        logits, deltas, *centerness = predictions
        try:
            losses = detector.losses(anchors, logits, labels, deltas, boxes, *centerness)
        except AssertionError as error:  # Detectron2's IoU loss asserts that boxes are boxes, which NaN is not
            raise FloatingPointError(f"the detector predicts no boxes any more ({error})") from None
        return losses, (labels, boxes, left_out)

    def task_losses(
        self, images: ImageList, features: dict[str, Tensor], ground_truth: list[Instances]
    ) -> dict[str, Tensor]:
        maps = predict_maps(self, features)
        with torch.autocast(images.tensor.device.type, enabled=False):
            return self.losses_of(pyramid_of(self, features), maps, ground_truth)[0]

    def detect(self, images: ImageList, features: dict[str, Tensor]) -> list[Instances]:
        maps = predict_maps(self, features)
        return cast(Any, self).forward_inference(images, pyramid_of(self, features), maps)


@META_ARCH_REGISTRY.register()
class UpsampledRetinaNet(UpsampledDense, RetinaNet):
    """Detectron2's RetinaNet (keys MODEL.RETINANET.*) whose input is up-sampled first; its pyramid may pass a BFA."""

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return upsampling_arguments(cfg, super().from_config(cfg), cfg.MODEL.RETINANET.IN_FEATURES)


@META_ARCH_REGISTRY.register()
class UpsampledFCOS(UpsampledDense, FCOS):
    """Detectron2's FCOS (keys MODEL.FCOS.*) whose input is up-sampled first; its pyramid may pass a BFA."""

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        settings = cfg.MODEL.FCOS
        backbone = build_backbone(cfg)
        shapes = [backbone.output_shape()[level] for level in settings.IN_FEATURES]
        head = FCOSHead(
            input_shape=shapes,
            num_classes=settings.NUM_CLASSES,
            conv_dims=[shapes[0].channels] * settings.NUM_CONVS,
            norm=settings.NORM,
            prior_prob=settings.PRIOR_PROB,
        )
        detector = {
            "backbone": backbone,
            "head": head,
            "head_in_features": settings.IN_FEATURES,
            "num_classes": settings.NUM_CLASSES,
            "center_sampling_radius": settings.CENTER_SAMPLING_RADIUS,
            "focal_loss_alpha": settings.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": settings.FOCAL_LOSS_GAMMA,
            "test_score_thresh": settings.SCORE_THRESH_TEST,
            "test_topk_candidates": settings.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": settings.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }
        return upsampling_arguments(cfg, detector, settings.IN_FEATURES)

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        pred_centerness: list[Tensor],
    ) -> dict[str, Tensor]:
        """Detectron2's losses, for labels that may be -1, which Detectron2's FCOS does not know.

        Such a location is given the background's label and a logit so low that its loss and its gradient are 0.
        """
        left_out = torch.stack(gt_labels) < 0
        levels = left_out.split([level.shape[1] for level in pred_logits], dim=1)
        pred_logits = [
            logits.masked_fill(out[..., None], NO_LOSS) for logits, out in zip(pred_logits, levels, strict=True)
        ]
        background = cast(Any, self).num_classes
        gt_labels = [labels.masked_fill(labels < 0, background) for labels in gt_labels]
        return super().losses(anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes, pred_centerness)
