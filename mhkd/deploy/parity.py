"""Do two detectors, or two ways to run one, say the same? Detections matched one to one, and how they differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from mhkd.structures import SlideDetections

MATCH_IOU = 0.5
BOX_PX, SCORE = 0.01, 0.001
"""Within these, in the model's pixels and as a score, an exported detector must agree with its checkpoint."""


@dataclass(frozen=True)
class Parity:
    """How far the detections of two detectors agree.

    Attributes:
        matched: number of pairs.
        unmatched: number of detections of either side without a partner.
        box_px: the largest difference of a pair's coordinates, in the unit of the boxes.
        score: the largest difference of a pair's scores.
        unmatched_score: the best score without a partner.
    """

    matched: int
    unmatched: int
    box_px: float
    score: float
    unmatched_score: float

    def within(self, box_px: float = BOX_PX, score: float = SCORE) -> bool:
        """Whether all have a partner and no pair differs by more."""
        return not self.unmatched and self.box_px <= box_px and self.score <= score

    def __str__(self) -> str:
        return (
            f"{self.matched} detections agree within {self.box_px:.2g} px and {self.score:.2g} of the score, "
            f"{self.unmatched} have no partner"
        )


def compare(pairs: Iterable[tuple[SlideDetections, SlideDetections]]) -> Parity:
    """Compare detections of the same images: each with the one of its class that it overlaps most, by 0.5 or more."""
    matched, unmatched, box_px, score, unmatched_score = 0, 0, 0.0, 0.0, 0.0
    for one, other in pairs:
        overlap = box_iou(torch.from_numpy(one.boxes_l0), torch.from_numpy(other.boxes_l0)).numpy()
        overlap = np.where(one.labels[:, None] == other.labels[None, :], overlap, 0.0)
        left, right = np.ones(len(one), bool), np.ones(len(other), bool)
        for index in np.argsort(-overlap, axis=None, kind="stable"):
            i, j = divmod(int(index), len(other))
            if overlap[i, j] < MATCH_IOU:
                break
            if left[i] and right[j]:
                left[i] = right[j] = False
                matched += 1
                box_px = max(box_px, float(np.abs(one.boxes_l0[i] - other.boxes_l0[j]).max()))
                score = max(score, abs(float(one.scores[i] - other.scores[j])))
        unmatched += int(left.sum() + right.sum())
        unmatched_score = max([unmatched_score, *one.scores[left], *other.scores[right]])
    return Parity(matched, unmatched, box_px, score, float(unmatched_score))
