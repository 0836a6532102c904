"""Results class by class, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.evaluation.matching import match
from mhkd.evaluation.scored_slide import SlideCase

MISSED, NOTHING = "(missed)", "(nothing)"
"""In a confusion table: what a true object was found as where it was not found; what is where nothing is."""


def of_class(case: SlideCase, label: int) -> SlideCase:
    """``case`` as if ``label``, an index into the model's classes, were the only class."""
    truth, true = case.truth, case.truth.labels == label
    return replace(
        case,
        truth=GroundTruth(truth.boxes_l0[true], truth.labels[true], truth.ignore[true]),
        found=case.found.select(case.found.labels == label),
    )


def confusion(cases: Sequence[SlideCase], score_thresh: float) -> dict[str, dict[str, int]]:
    """How often each true class was found as each class, ``{true: {found: count}}``.

    cases: one or more, all of one model. Detections that score ``score_thresh`` or more are matched one to one at
    IoU 0.5, best first, whatever their class. An object that none takes is found as ``MISSED``; a detection that takes
    none, such as a second one of another class on the same object, is one of ``NOTHING``.
    """
    names = cases[0].found.class_names
    counts = np.zeros((len(names) + 1, len(names) + 1), dtype=int)
    for case in cases:
        true, found = case.truth, case.found.select(case.found.scores >= score_thresh)
        alike = GroundTruth(true.boxes_l0, np.zeros_like(true.labels), true.ignore)
        which, taken = match(alike, replace(found, labels=np.zeros_like(found.labels)))
        rows = np.where(taken >= 0, true.labels[taken] if len(true) else len(names), len(names))
        np.add.at(counts, (rows, found.labels[which]), 1)
        missed = np.setdiff1d(np.flatnonzero(~true.ignore), taken)
        np.add.at(counts, (true.labels[missed], len(names)), 1)
    found_as = (*names, MISSED)
    return {
        true: dict(zip(found_as, row, strict=True))
        for true, row in zip((*names, NOTHING), counts.tolist(), strict=True)
    }
