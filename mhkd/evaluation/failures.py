"""What a detector got wrong at its threshold: false detections, missed objects and loose boxes, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from mhkd.evaluation.matching import MATCH_IOU
from mhkd.evaluation.metrics import SlideFigures
from mhkd.evaluation.scored_slide import SlideCase
from mhkd.evaluation.sizes import equivalent_diameter_um

FALSE, MISSED, LOOSE = "false", "missed", "loose"
KINDS = (FALSE, MISSED, LOOSE)
LOOSE_IOU = 0.75  # a box that fits less well is no hit for AP75
_TOUCHING_IOU = 0.1  # two boxes that overlap less have nothing to do with each other


@dataclass(frozen=True)
class Failure:
    """One failure on one slide.

    kind: ``false`` (a detection that is no object), ``missed`` (an object not found) or ``loose`` (found, IoU below
    0.75). box_l0: (4,) xyxy in level-0 pixels, of the detection or, where it was missed, of the object. score: of the
    detection; of a missed object that of the detection below the threshold that would have found it, None without any.
    iou: of the box with the object or detection of its class that it overlaps most. cause: of false ones ``double``,
    ``other class``, ``too loose`` or ``nothing there``; of missed ones ``too weak``, ``shared`` (its only detection
    went to a neighbour), ``too loose``, ``other class`` or ``not seen``; else empty. weak_l0: the box of the detection
    below the threshold, if any.
    """

    kind: str
    case: SlideCase
    box_l0: np.ndarray
    label: int
    score: float | None
    iou: float
    cause: str = ""
    weak_l0: np.ndarray | None = None

    @property
    def diameter_um(self) -> float:
        """The size of the box."""
        return float(equivalent_diameter_um(self.box_l0[None], self.case.mpp)[0])

    def badness(self) -> tuple[float | str, ...]:
        """Sorts the failures of one kind: the surest false detections first, the objects with the lowest score and of
        these the largest, the loosest boxes; equal ones by slide and place."""
        score = self.score or 0.0
        worst = {FALSE: (-score, -self.iou), MISSED: (score, -self.diameter_um), LOOSE: (self.iou, -score)}[self.kind]
        x0, y0, *_ = self.box_l0.tolist()
        return (*worst, self.case.name, y0, x0)


def find_failures(figures: SlideFigures) -> list[Failure]:
    """All failures at the threshold of ``figures``, by kind and then the worst first."""
    found = [failure for i in range(len(figures.cases)) for failure in _of_slide(figures, i)]
    return sorted(found, key=lambda failure: (KINDS.index(failure.kind), *failure.badness()))


def _of_slide(figures: SlideFigures, image: int) -> Iterator[Failure]:
    case, matches, thresh = figures.cases[image], figures.matches, figures.result["score_thresh"]
    truth, found = case.truth, case.found
    iou = box_iou(torch.from_numpy(found.boxes_l0), torch.from_numpy(truth.boxes_l0)).numpy()  # (N, M)
    iou[:, truth.ignore] = 0.0
    same = found.labels[:, None] == truth.labels[None, :]
    own, other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
    here = matches.image == image
    taken_by = {int(t): int(d) for d, t in zip(matches.found[here], matches.taken[here], strict=True) if t >= 0}
    strong = found.scores >= thresh
    for i in matches.found[here & ~matches.correct & (matches.scores >= thresh)].tolist():
        fit = float(own[i].max(initial=0.0))
        if fit >= MATCH_IOU:
            cause = "double"
        elif other[i].max(initial=0.0) >= MATCH_IOU:
            cause = "other class"
        else:
            cause = "too loose" if fit >= _TOUCHING_IOU else "nothing there"
        yield Failure(FALSE, case, found.boxes_l0[i], int(found.labels[i]), float(found.scores[i]), fit, cause)
    for j in np.flatnonzero(~truth.ignore).tolist():
        box, label, i = truth.boxes_l0[j], int(truth.labels[j]), taken_by.get(j)
        if i is None or not strong[i]:
            fit = float(own[strong, j].max(initial=0.0))
            if i is not None:
                score, weak = float(found.scores[i]), found.boxes_l0[i]
                yield Failure(MISSED, case, box, label, score, fit, "too weak", weak)
            else:
                confused = other[strong, j].max(initial=0.0) >= MATCH_IOU
                yield Failure(MISSED, case, box, label, None, fit, _why_unseen(fit, confused))
        elif own[i, j] < LOOSE_IOU:
            score, fit = float(found.scores[i]), float(own[i, j])
            yield Failure(LOOSE, case, found.boxes_l0[i], label, score, fit)


def _why_unseen(fit: float, confused: bool) -> str:
    """Why nothing took an object that the best detection of its class overlaps by ``fit``."""
    if fit >= MATCH_IOU:
        return "shared"
    if confused:
        return "other class"
    return "too loose" if fit >= _TOUCHING_IOU else "not seen"
