"""Boxes of which somebody is less than sure: what is asked of the detector for one of them weighs so much less.

Objects may have ``gt_weights``, (M,) in 0 to 1; where they have none each counts fully. The gradient of every location
and RoI that stands for an object is multiplied by the object's weight, on its way from the detection losses to the
predictions: the detector learns from the weighted sum of its terms, whatever losses those are. Their values in the log
stay those without weights, and distillation losses are not weighted. Without ``gt_weights`` nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor


def has_weights(ground_truth: Sequence[Instances]) -> bool:
    """Whether the objects of any image of the batch have weights; asks the device for nothing."""
    return any(instances.has("gt_weights") for instances in ground_truth)


def weights_of(boxes: Tensor, is_object: Tensor, instances: Instances) -> Tensor:
    """(R,) float32: the weight of the object that each of R locations or RoIs of an image stands for, else 1.

    Args:
        boxes: (R, 4), the object's box where ``is_object``, (R,) bool, as matching took it from ``instances``.
    """
    weights = torch.ones(len(boxes), device=boxes.device)
    if not instances.has("gt_weights") or not len(instances):
        return weights
    objects = is_object.nonzero()[:, 0]
    same = (boxes[objects, None] == instances.gt_boxes.tensor).all(dim=2)
    weights[objects] = (same * instances.gt_weights).amax(dim=1)
    return weights


def scale_gradient(values: Tensor, weights: Tensor) -> Tensor:
    """``values``, the gradient of which is multiplied by ``weights``, a tensor of its first dimensions."""
    if not values.requires_grad:
        return values
    factors = weights.reshape(*weights.shape, *[1] * (values.dim() - weights.dim()))
    values = values.view_as(values)
    values.register_hook(lambda gradient: gradient * factors.to(gradient.dtype))
    return values


def scale_levels(levels: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
    """The same for the predictions of each level, (N, R_level, ...), with ``weights`` (N, R) of all of them."""
    parts = weights.split([level.shape[1] for level in levels], dim=1)
    return [scale_gradient(level, part) for level, part in zip(levels, parts, strict=True)]


def weigh_boxes(detector: Any) -> None:
    """Let the RPN and the RoI heads of ``detector``, a GeneralizedRCNN, weigh objects by ``gt_weights``, in place.

    Doing it twice is doing it once.
    """
    rpn, heads = getattr(detector, "proposal_generator", None), getattr(detector, "roi_heads", None)
    if isinstance(rpn, RPN) and "losses" not in vars(rpn):
        _WeightedAnchors(rpn)
    if not isinstance(heads, ROIHeads) or not hasattr(heads, "box_predictor"):
        return
    is_cascade = hasattr(heads, "_match_and_label_boxes")
    predictors = list(heads.box_predictor) if is_cascade else [heads.box_predictor]
    if "losses" in vars(predictors[0]):
        return
    for predictor in predictors:
        _WeightedRoIs(predictor)
    if is_cascade:
        _StageWeights(heads)


class _WeightedAnchors:
    """Stands before an RPN's labelling, for the weights, and before its losses, to use them."""

    def __init__(self, rpn: Any) -> None:
        self.label_and_sample, self.plain_losses = rpn.label_and_sample_anchors, rpn.losses
        self.weights: Tensor | None = None  # (N, R) of this batch
        rpn.label_and_sample_anchors, rpn.losses = self.label_and_sample_anchors, self.losses

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], ground_truth: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = self.label_and_sample(anchors, ground_truth)
        self.weights = None
        if has_weights(ground_truth):
            of_images = zip(boxes, labels, ground_truth, strict=True)
            self.weights = torch.stack([weights_of(box, label == 1, image) for box, label, image in of_images])
        return labels, boxes

    def losses(
        self,
        anchors: list[Boxes],
        logits: list[Tensor],
        labels: list[Tensor],
        deltas: list[Tensor],
        boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        if self.weights is not None:
            logits, deltas = (scale_levels(levels, self.weights) for levels in (logits, deltas))
        return self.plain_losses(anchors, logits, labels, deltas, boxes)


class _WeightedRoIs:
    """Stands before the losses of a box predictor. Labelling has given ``gt_weights`` to proposals as to objects."""

    def __init__(self, predictor: Any) -> None:
        self.num_classes, self.plain_losses = predictor.num_classes, predictor.losses
        predictor.losses = self.losses

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]) -> dict[str, Tensor]:
        if has_weights(proposals):
            weights = torch.cat([self._weights(rois) for rois in proposals])
            predictions = scale_gradient(predictions[0], weights), scale_gradient(predictions[1], weights)
        return self.plain_losses(predictions, proposals)

    def _weights(self, rois: Instances) -> Tensor:
        is_object = rois.gt_classes != self.num_classes
        weights = torch.ones(len(rois), device=is_object.device)
        return torch.where(is_object, rois.gt_weights, weights) if rois.has("gt_weights") else weights


class _StageWeights:
    """Stands before the labelling of a cascade's later stages, which knows no fields but its own."""

    def __init__(self, heads: Any) -> None:
        self.heads, self.match_and_label = heads, heads._match_and_label_boxes
        heads._match_and_label_boxes = self.match_and_label_boxes

    @torch.no_grad()
    def match_and_label_boxes(
        self, proposals: list[Instances], stage: int, ground_truth: list[Instances]
    ) -> list[Instances]:
        labelled = self.match_and_label(proposals, stage, ground_truth)
        if has_weights(ground_truth):
            for rois, instances in zip(labelled, ground_truth, strict=True):
                is_object = rois.gt_classes != self.heads.num_classes
                rois.gt_weights = weights_of(rois.gt_boxes.tensor, is_object, instances)
        return labelled
