"""Boxes to be ignored: what lies in one is neither object nor background, and no detection loss is asked of it.

An anchor or a RoI lies in an ignored box with half of its own area or more, a location of FCOS with its point. Where it
matches no object it gets no label; where it matches one it is labelled as everywhere else. Matching and sampling are
Detectron2's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.structures import Boxes, Instances, pairwise_ioa, pairwise_iou
from torch import Tensor

MIN_INSIDE = 0.5


class GroundTruth(Instances):
    """The objects of one image (``gt_boxes``, ``gt_classes``) as Detectron2's Instances, and the boxes to be ignored.

    Whoever does not ask for ``ignored``, in the same pixels as ``gt_boxes``, sees objects alone.
    """

    def __init__(self, image_size: tuple[int, int], *, ignored: Boxes, **fields: Any) -> None:
        """``fields``: those of Detectron2's Instances, one entry an object."""
        super().__init__(image_size, **fields)
        self._ignored = ignored

    @property
    def ignored(self) -> Boxes:
        return self._ignored


def ignored_boxes(instances: Instances) -> Boxes:
    """The boxes to be ignored that come with ``instances``; none where these are plain Instances of Detectron2."""
    if isinstance(instances, GroundTruth):
        return instances.ignored
    return Boxes(instances.gt_boxes.tensor.new_zeros(0, 4))


def has_ignored(ground_truth: Sequence[Instances]) -> bool:
    """Whether any image of the batch has a box to be ignored; asks the device for nothing."""
    return any(len(ignored_boxes(instances)) for instances in ground_truth)


def lies_inside(boxes: Boxes, ignored: Boxes) -> Tensor:
    """(R,) bool: which of R ``boxes`` lie with half of their area or more in one of the ``ignored`` boxes."""
    if not len(ignored):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    return (pairwise_ioa(ignored, boxes) >= MIN_INSIDE).any(dim=0)


def centre_lies_inside(boxes: Boxes, ignored: Boxes) -> Tensor:
    """(R,) bool: which of R ``boxes`` have their centre in one of the ``ignored`` boxes."""
    centres = boxes.get_centers()[:, None]
    return ((centres >= ignored.tensor[:, :2]) & (centres <= ignored.tensor[:, 2:])).all(dim=2).any(dim=1)


def label_locations(
    detector: Any, anchors: list[Boxes], ground_truth: list[Instances]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Labels for the locations of a dense head (RetinaNet or FCOS), R of all levels together.

    Args:
        anchors: of each level, in the pixels of ``ground_truth``.

    Returns:
        Per image labels (R,), K for background and -1 for no label; matched boxes (R, 4), which mean something where
        the label is of an object; and whether a location was left out because it lies in an ignored box, (R,) bool.
    """
    labels, boxes = detector.label_anchors(anchors, ground_truth)
    every_anchor = Boxes.cat(anchors)
    is_inside = centre_lies_inside if isinstance(detector, FCOS) else lies_inside
    left_out = []
    for label, instances in zip(labels, ground_truth, strict=True):
        is_object = (label >= 0) & (label < detector.num_classes)
        left_out.append(is_inside(every_anchor, ignored_boxes(instances)) & ~is_object)
    if has_ignored(ground_truth):
        labels = [label.masked_fill(out, -1) for label, out in zip(labels, left_out, strict=True)]
    return labels, boxes, left_out


def leave_ignored_out(detector: Any) -> None:
    """Let the RPN and the RoI heads of ``detector``, a GeneralizedRCNN, follow :class:`GroundTruth`, in place.

    They are wrapped rather than replaced, so that any that Detectron2 or a user has registered will do. Without an
    ignored box in the batch they compute what they computed before. Doing it twice is doing it once.
    """
    rpn, heads = getattr(detector, "proposal_generator", None), getattr(detector, "roi_heads", None)
    if isinstance(rpn, RPN) and "label_and_sample_anchors" not in vars(rpn):
        _AnchorLabels(rpn)
    if isinstance(heads, ROIHeads) and "label_and_sample_proposals" not in vars(heads):
        _RoILabels(heads)


class _AnchorLabels:
    """Stands before an RPN's labelling: it samples no anchor as background that lies in an ignored box."""

    def __init__(self, rpn: Any) -> None:
        self.label_and_sample, self.subsample = rpn.label_and_sample_anchors, rpn._subsample_labels
        self.left_out: list[Tensor] = []  # of the images of this batch that are still to be sampled
        rpn.label_and_sample_anchors, rpn._subsample_labels = self.label_and_sample_anchors, self.subsample_labels

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], ground_truth: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        self.left_out = []
        if has_ignored(ground_truth):
            every_anchor = Boxes.cat(anchors)
            self.left_out = [lies_inside(every_anchor, ignored_boxes(instances)) for instances in ground_truth]
        return self.label_and_sample(anchors, ground_truth)

    def subsample_labels(self, labels: Tensor) -> Tensor:
        """Detectron2 calls this for one image after another, between matching and sampling."""
        if self.left_out:
            labels = labels.masked_fill(self.left_out.pop(0) & (labels == 0), -1)
        return self.subsample(labels)


class _RoILabels:
    """Stands before the labelling of RoI heads: proposals in an ignored box that match no object are left out."""

    def __init__(self, heads: Any) -> None:
        self.heads = heads
        self.label_and_sample = heads.label_and_sample_proposals
        heads.label_and_sample_proposals = self.label_and_sample_proposals
        if hasattr(heads, "_match_and_label_boxes"):  # the later stages of a cascade
            self.match_and_label = heads._match_and_label_boxes
            heads._match_and_label_boxes = self.match_and_label_boxes

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], ground_truth: list[Instances]) -> list[Instances]:
        pairs = zip(proposals, ground_truth, strict=True)
        return self.label_and_sample([self._countable(*pair) for pair in pairs], ground_truth)

    def _countable(self, proposals: Instances, instances: Instances) -> Instances:
        """The proposals of one image that are an object or background."""
        ignored = ignored_boxes(instances)
        if not len(ignored):
            return proposals
        boxes = proposals.proposal_boxes
        labels = self.heads.proposal_matcher(pairwise_iou(instances.gt_boxes, boxes))[1]
        return proposals[~(lies_inside(boxes, ignored) & (labels != 1))]

    @torch.no_grad()
    def match_and_label_boxes(
        self, proposals: list[Instances], stage: int, ground_truth: list[Instances]
    ) -> list[Instances]:
        labelled = self.match_and_label(proposals, stage, ground_truth)
        kept = []
        for rois, instances in zip(labelled, ground_truth, strict=True):
            if len(ignored := ignored_boxes(instances)):
                is_object = rois.gt_classes != self.heads.num_classes
                rois = rois[is_object | ~lies_inside(rois.proposal_boxes, ignored)]
            kept.append(rois)
        return kept
