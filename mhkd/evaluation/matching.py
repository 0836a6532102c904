"""One-to-one matching of detections and true objects, and what follows from it at one score threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.structures import SlideDetections

MATCH_IOU = 0.5


@dataclass(frozen=True)
class Counts:
    """Detections that are right and wrong, and true objects in all; those to be ignored are in none of them."""

    true_positives: int
    false_positives: int
    num_objects: int

    @property
    def precision(self) -> float | None:
        """None where nothing was found."""
        found = self.true_positives + self.false_positives
        return self.true_positives / found if found else None

    @property
    def recall(self) -> float | None:
        """None where there is nothing to find."""
        return self.true_positives / self.num_objects if self.num_objects else None

    @property
    def f1(self) -> float | None:
        """None where there is nothing to find and nothing was found."""
        total = self.true_positives + self.false_positives + self.num_objects
        return 2 * self.true_positives / total if total else None


def match(gt: GroundTruth, pred: SlideDetections, *, iou: float = MATCH_IOU) -> tuple[np.ndarray, np.ndarray]:
    """Which detections of one image are right: (scores, correct), both (K,), best first.

    Each detection, best first, takes the free true box of its class that it overlaps most, if by ``iou`` or more.
    Detections that fit only an object to be ignored are left out, hence K <= len(pred).
    """
    pred = pred.sort()
    correct = np.zeros(len(pred), dtype=bool)
    counted = np.ones(len(pred), dtype=bool)
    found, true = torch.from_numpy(pred.boxes_l0), torch.from_numpy(gt.boxes_l0)
    overlap = box_iou(found, true).numpy()
    same_class = pred.labels[:, None] == gt.labels[None, :]
    free = ~gt.ignore
    for i, row in enumerate(np.where(same_class, overlap, 0.0)):
        candidates = np.where(free, row, 0.0)
        if len(gt) and candidates.max() >= iou:
            correct[i] = True
            free[candidates.argmax()] = False
        elif (_share_inside(pred.boxes_l0[i], gt.boxes_l0[gt.ignore & same_class[i]]) >= iou).any():
            counted[i] = False
    return pred.scores[counted], correct[counted]


def count(gt: Mapping[str, GroundTruth], pred: Mapping[str, SlideDetections], score_thresh: float) -> Counts:
    """Counts over all images of ``gt``, of detections that score ``score_thresh`` or more."""
    scores, correct = _match_all(gt, pred)
    right = correct[scores >= score_thresh]
    return Counts(int(right.sum()), int((~right).sum()), _num_objects(gt))


def best_f1_thresh(gt: Mapping[str, GroundTruth], pred: Mapping[str, SlideDetections]) -> float | None:
    """The score threshold with the highest F1 over all images, the higher of two that tie; None without a hit."""
    scores, correct = _match_all(gt, pred)
    if not correct.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(correct[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + _num_objects(gt))
    f1[:-1][scores[:-1] == scores[1:]] = -1.0  # a threshold cannot tell equal scores apart
    return float(scores[f1.argmax()])


def _share_inside(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(M,) how much of ``box`` lies in each of ``others``, as COCO compares with regions to be ignored."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.maximum(sides, 0.0).prod(axis=1) / max(float((box[2:] - box[:2]).prod()), 1e-9)


def _match_all(gt: Mapping[str, GroundTruth], pred: Mapping[str, SlideDetections]) -> tuple[np.ndarray, np.ndarray]:
    parts = [match(gt[name], pred[name]) for name in sorted(gt) if name in pred]
    scores = np.concatenate([np.empty(0), *(scores for scores, _ in parts)])
    return scores, np.concatenate([np.empty(0, dtype=bool), *(correct for _, correct in parts)])


def _num_objects(gt: Mapping[str, GroundTruth]) -> int:
    return int(sum((~truth.ignore).sum() for truth in gt.values()))
