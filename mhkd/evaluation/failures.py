"""What a detector got wrong at its threshold: false detections, missed objects and loose boxes, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mhkd.evaluation.matching import MATCH_IOU, iou_and_class
from mhkd.evaluation.metrics import SlideMetrics, equivalent_diameter_um
from mhkd.evaluation.scored_slide import ScoredSlide

FALSE, MISSED, LOOSE = "false", "missed", "loose"
KINDS = (FALSE, MISSED, LOOSE)
LOOSE_IOU = 0.75  # a box that fits less well is no hit for AP75
_TOUCHING_IOU = 0.1  # two boxes that overlap less have nothing to do with each other


@dataclass(frozen=True)
class Failure:
    """One failure on one slide.

    Attributes:
        kind: ``false`` (a detection that is no object), ``missed`` (an object not found) or ``loose`` (found, IoU below
            0.75).
        box_l0: (4,) xyxy in level-0 pixels, of the detection or, where it was missed, of the object.
        label: of the box, an index into the model's classes.
        score: of the detection; of a missed object that of the detection below the threshold that would have found it,
            None without any.
        iou: of the box with the object or detection of its class that it overlaps most.
        cause: of false ones ``double``, ``other class``, ``too loose`` or ``nothing there``; of missed ones ``too
            weak``, ``shared`` (its only detection went to a neighbour), ``too loose``, ``other class`` or ``not seen``;
            else empty.
        weak_l0: the box of the detection below the threshold, if any, (4,) as ``box_l0``.
    """

    kind: str
    slide: ScoredSlide
    box_l0: np.ndarray
    label: int
    score: float | None
    iou: float
    cause: str = ""
    weak_l0: np.ndarray | None = None

    @property
    def diameter_um(self) -> float:
        """The size of the box in micrometres: see :func:`mhkd.evaluation.metrics.equivalent_diameter_um`."""
        return float(equivalent_diameter_um(self.box_l0[None], self.slide.mpp)[0])

    def badness(self) -> tuple[float | str, ...]:
        """Sorts the failures of one kind: the surest false detections first, the objects with the lowest score and of
        these the largest, the loosest boxes; equal ones by slide and place."""
        score = self.score or 0.0
        worst = {FALSE: (-score, -self.iou), MISSED: (score, -self.diameter_um), LOOSE: (self.iou, -score)}[self.kind]
        x0, y0, *_ = self.box_l0.tolist()
        return (*worst, self.slide.name, y0, x0)


def list_failures(metrics: SlideMetrics) -> list[Failure]:
    """All failures at the threshold of ``metrics``, by kind and then the worst first."""
    failures = [failure for i in range(len(metrics.slides)) for failure in _of_slide(metrics, i)]
    return sorted(failures, key=lambda failure: (KINDS.index(failure.kind), *failure.badness()))


def _of_slide(metrics: SlideMetrics, image: int) -> Iterator[Failure]:
    slide, matches, thresh = metrics.slides[image], metrics.matches, metrics.result["score_thresh"]
    gt, pred = slide.ground_truth, slide.detections
    iou, same = iou_and_class(gt, pred)
    iou[:, gt.ignore] = 0.0
    own, other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
    here = matches.image == image
    hits = here & matches.correct
    pred_of_gt = dict(zip(matches.gt_index[hits].tolist(), matches.pred_index[hits].tolist(), strict=True))
    strong = pred.scores >= thresh
    for i in matches.pred_index[here & ~matches.correct & (matches.scores >= thresh)].tolist():
        fit = float(own[i].max(initial=0.0))
        cause = _cause(fit, other[i], matched="double", apart="nothing there")
        yield Failure(FALSE, slide, pred.boxes_l0[i], int(pred.labels[i]), float(pred.scores[i]), fit, cause)
    for j in np.flatnonzero(~gt.ignore).tolist():
        box, label, i = gt.boxes_l0[j], int(gt.labels[j]), pred_of_gt.get(j)
        if i is None or not strong[i]:
            fit = float(own[strong, j].max(initial=0.0))
            if i is not None:
                yield Failure(MISSED, slide, box, label, float(pred.scores[i]), fit, "too weak", pred.boxes_l0[i])
            else:
                cause = _cause(fit, other[strong, j], matched="shared", apart="not seen")
                yield Failure(MISSED, slide, box, label, None, fit, cause)
        elif own[i, j] < LOOSE_IOU:
            yield Failure(LOOSE, slide, pred.boxes_l0[i], label, float(pred.scores[i]), float(own[i, j]))


def _cause(fit: float, others: np.ndarray, *, matched: str, apart: str) -> str:
    """Why a box has no partner: ``fit`` is its best IoU within its class, ``others`` are those with other classes."""
    if fit >= MATCH_IOU:
        return matched
    if others.max(initial=0.0) >= MATCH_IOU:
        return "other class"
    return "too loose" if fit >= _TOUCHING_IOU else apart
