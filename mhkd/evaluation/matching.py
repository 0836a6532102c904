"""One-to-one matching of detections and true objects, and what follows from it: counts, the best threshold, FROC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from mhkd.evaluation.scored_slide import GroundTruth
from mhkd.inference.overlap import area, intersection
from mhkd.structures import SlideDetections

MATCH_IOU = 0.5
PER_SLIDE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false detections of FROC's points, as in CAMELYON16
PER_MM2 = (0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Counts:
    """Detections that are right and wrong, and true objects in all; those to be ignored are in none of them."""

    true_positives: int
    false_positives: int
    num_objects: int

    @property
    def precision(self) -> float | None:
        """None where there is no detection."""
        detections = self.true_positives + self.false_positives
        return self.true_positives / detections if detections else None

    @property
    def recall(self) -> float | None:
        """None where there is no object."""
        return self.true_positives / self.num_objects if self.num_objects else None

    @property
    def f1(self) -> float | None:
        """None where there is neither object nor detection."""
        total = self.true_positives + self.false_positives + self.num_objects
        return 2 * self.true_positives / total if total else None


@dataclass(frozen=True)
class Matches:
    """The detections of several images, matched once, the best over all images first.

    Detections that fit only an object to be ignored are left out.

    Attributes:
        scores: (N,) descending.
        correct: (N,) bool.
        image: (N,) indices into ``num_objects``.
        pred_index: (N,) indices into the detections of the image.
        gt_index: (N,) indices into the true objects of the image, -1 where the detection is wrong.
        num_objects: (I,) true objects of each image that are not to be ignored.
    """

    scores: np.ndarray
    correct: np.ndarray
    image: np.ndarray
    pred_index: np.ndarray
    gt_index: np.ndarray
    num_objects: np.ndarray

    def per_image(self, score_thresh: float) -> tuple[np.ndarray, np.ndarray]:
        """Right and wrong detections with this score or more, by image: (I,) and (I,)."""
        chosen = self.scores >= score_thresh
        right, wrong = (self.image[chosen & kind] for kind in (self.correct, ~self.correct))
        size = len(self.num_objects)
        return np.bincount(right, minlength=size), np.bincount(wrong, minlength=size)

    def counts(self, score_thresh: float) -> Counts:
        """Over all images, of detections that score ``score_thresh`` or more."""
        right, wrong = self.per_image(score_thresh)
        return Counts(int(right.sum()), int(wrong.sum()), int(self.num_objects.sum()))

    def cumulative(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Right and wrong detections down to each score, where image i counts ``weights[..., i]`` times.

        Args:
            weights: (..., I), by default once each: (I,).

        Returns:
            (..., T) and (..., T), one column for each score that occurs, the highest first: a threshold cannot tell
            equal scores apart.
        """
        weights = np.ones(len(self.num_objects)) if weights is None else weights
        weight = weights[..., self.image]
        last = np.append(self.scores[1:] != self.scores[:-1], True)[: len(self.scores)]
        right, wrong = (np.cumsum(weight * kind, axis=-1)[..., last] for kind in (self.correct, ~self.correct))
        return right, wrong

    def thresholds(self) -> np.ndarray:
        """The scores that occur, the highest first: those of the columns of :meth:`cumulative`."""
        return np.unique(self.scores)[::-1]


def iou_and_class(gt: GroundTruth, pred: SlideDetections) -> tuple[np.ndarray, np.ndarray]:
    """(K, M) the IoU of each detection with each true object, and (K, M) bool, whether both are of one class."""
    iou = box_iou(torch.from_numpy(pred.boxes_l0), torch.from_numpy(gt.boxes_l0)).numpy()
    return iou, pred.labels[:, None] == gt.labels


def match_by_iou(gt: GroundTruth, pred: SlideDetections) -> tuple[np.ndarray, np.ndarray]:
    """How well each detection fits each true object of its class.

    Returns:
        (K, M) their IoU from 0.5 on, else 0; and (K,) bool, whether half of a detection or more lies in an object that
        is to be ignored.
    """
    iou, same_class = iou_and_class(gt, pred)
    boxes = pred.boxes_l0[:, None]
    share_inside = intersection(boxes, gt.boxes_l0) / np.maximum(area(boxes), 1e-9)  # as COCO compares with crowds
    ignored = (share_inside >= MATCH_IOU) & same_class & gt.ignore
    return np.where(same_class & (iou >= MATCH_IOU), iou, 0.0), ignored.any(axis=1)


def match_by_centre(gt: GroundTruth, pred: SlideDetections) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`match_by_iou`, where a detection fits a true box that its centre lies in, the better the nearer the
    two centres are.

    At low resolution one pixel of box error takes much of the IoU, while counts and positions are as good as ever.
    """
    centre, true_centre = (0.5 * (boxes[:, :2] + boxes[:, 2:]) for boxes in (pred.boxes_l0, gt.boxes_l0))
    low, high = gt.boxes_l0[:, :2] <= centre[:, None], centre[:, None] <= gt.boxes_l0[:, 2:]
    inside = (low & high).all(axis=2) & (pred.labels[:, None] == gt.labels[None, :])
    distance = np.linalg.norm(centre[:, None] - true_centre, axis=2)
    return np.where(inside, 1.0 / (1.0 + distance), 0.0), (inside & gt.ignore).any(axis=1)


Criterion = Callable[[GroundTruth, SlideDetections], tuple[np.ndarray, np.ndarray]]


def match(gt: GroundTruth, pred: SlideDetections, criterion: Criterion = match_by_iou) -> tuple[np.ndarray, np.ndarray]:
    """Match the detections of one image: each, best first, takes the free true object of its class that it fits best.

    Returns:
        (K,) indices into ``pred``, best first, and (K,) indices into ``gt``, -1 where a detection takes none.
        Detections that fit only an object to be ignored are left out, hence K <= len(pred).
    """
    order = np.lexsort((pred.labels, *pred.boxes_l0.T[[2, 3, 0, 1]], -pred.scores))
    fit, in_ignored = criterion(gt, pred.select(order))
    taken = np.full(len(pred), -1)
    free = ~gt.ignore
    for i in np.flatnonzero((fit > 0).any(axis=1)) if len(gt) else ():
        candidates = np.where(free, fit[i], 0.0)
        if candidates.max() > 0:
            taken[i] = candidates.argmax()
            free[taken[i]] = False
    counted = (taken >= 0) | ~in_ignored
    return order[counted], taken[counted]


def match_all(
    gt: Mapping[str, GroundTruth], pred: Mapping[str, SlideDetections], criterion: Criterion = match_by_iou
) -> Matches:
    """The matches of the images of ``gt`` in the order of their names; one without an entry in ``pred`` has none."""
    names, none = sorted(gt), np.empty(0)
    parts: list[tuple[np.ndarray, ...]] = [(none, none.astype(int), none.astype(int), none.astype(int))]
    for image, name in enumerate(names):
        if name in pred:
            pred_index, gt_index = match(gt[name], pred[name], criterion)
            parts.append((pred[name].scores[pred_index], np.full(len(pred_index), image), pred_index, gt_index))
    scores, image_of, pred_index, gt_index = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    num_objects = np.array([int((~gt[name].ignore).sum()) for name in names], dtype=int)
    pred_index, gt_index = pred_index[order], gt_index[order]
    return Matches(scores[order], gt_index >= 0, image_of[order], pred_index, gt_index, num_objects)


def best_f1_thresh(matches: Matches) -> float | None:
    """The score threshold with the highest F1 over all images, the highest of those that tie; None without a hit."""
    if not matches.correct.any():
        return None
    hits, misses = matches.cumulative()
    f1 = 2 * hits / (hits + misses + matches.num_objects.sum())
    return float(matches.thresholds()[f1.argmax()])


def sensitivity_at(
    matches: Matches, amounts: np.ndarray, rates: tuple[float, ...], weights: np.ndarray | None = None
) -> np.ndarray:
    """FROC: the share of the true objects detected at no more than each of R ``rates`` of false detections per unit.

    The threshold is the lowest with at most that rate; nothing is interpolated.

    Args:
        amounts: (I,) what each image holds of the unit (1 slide, so many mm2 of tissue).
        weights: (B, I) how many times each image counts, by default once.

    Returns:
        (B, R); NaN where there is no object or none of the unit.
    """
    weights = np.ones((1, len(amounts))) if weights is None else weights
    hits, misses = matches.cumulative(weights)
    total, units = weights @ matches.num_objects, weights @ amounts
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = [(misses <= rate * units[:, None] + 1e-9).sum(axis=1) for rate in rates]
        start = np.concatenate((np.zeros((len(weights), 1)), hits), axis=1)  # above all scores nothing is found
        found = np.stack([np.take_along_axis(start, n[:, None], axis=1)[:, 0] for n in allowed], axis=1)
        return np.where((units > 0)[:, None], found / total[:, None], np.nan)


def froc_curve(matches: Matches, amount: float) -> tuple[np.ndarray, np.ndarray]:
    """FROC as a curve over the T scores that occur, from the highest on.

    Args:
        amount: what all images hold of the unit (slides, or mm2 of tissue).

    Returns:
        (T,) false detections per unit, and (T,) the share of the true objects that is detected.
    """
    hits, misses = matches.cumulative()
    return misses / amount, hits / max(int(matches.num_objects.sum()), 1)
