"""The figures of a detector on whole slides, with intervals by patient: one function from cases to plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mhkd.evaluation.agreement import agreement
from mhkd.evaluation.bootstrap import LEVEL, draw_weights, interval, resample
from mhkd.evaluation.classes import confusion, of_class
from mhkd.evaluation.coco import WeightedAP, coco_scores
from mhkd.evaluation.froc import PER_MM2, PER_SLIDE, sensitivity_at
from mhkd.evaluation.matching import Matches, match_all, match_by_centre, match_by_iou
from mhkd.evaluation.scored_slide import SlideCase
from mhkd.evaluation.sizes import SizeBins

DRAWS, SEED = 1000, 0


@dataclass(frozen=True)
class SlideFigures:
    """What a detector is worth on whole slides.

    result: all figures as plain JSON, rates in percent (docs/evaluation.md says what each is). cases: by name.
    matches: at IoU 0.5, image i being ``cases[i]``. samples: the draws of the bootstrap by figure, (draws,) each.
    """

    result: dict[str, Any]
    cases: tuple[SlideCase, ...]
    matches: Matches
    samples: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, cases: Sequence[SlideCase], score_thresh: float, *, draws: int = DRAWS, seed: int = SEED
    ) -> SlideFigures:
        """The figures of ``cases`` (one or more, each slide once).

        score_thresh: where precision, recall and F1 are taken and objects counted; choose it on other slides. draws:
        of the bootstrap by patient, 0 for none; there are no intervals for one patient.
        """
        cases = tuple(sorted(cases, key=lambda case: case.name))
        if len({case.name for case in cases}) < len(cases) or not cases:
            raise ValueError("figures need one or more slides, each once")
        statistics = _Statistics(cases, score_thresh)
        patients = [case.patient for case in cases]
        num_patients = len(set(patients))
        samples: dict[str, np.ndarray] = {}
        if draws and num_patients > 1:
            samples = resample(statistics, draw_weights(patients, draws, seed), len(statistics.matches.scores))
        by_patient = {name: [case for case in cases if case.patient == name] for name in sorted(set(patients))}
        names = cases[0].found.class_names
        result = {
            **score(cases, score_thresh),
            **statistics.result(),
            "score_thresh": score_thresh,
            "num_slides": len(cases),
            "num_patients": num_patients,
            "tissue_mm2": round(sum(case.tissue_mm2 for case in cases), 4),
            "intervals": {name: interval(values) for name, values in samples.items()},
            "bootstrap": {"unit": "patient", "draws": draws if samples else 0, "seed": seed, "level": LEVEL},
            "by_class": {
                name: score([of_class(case, i) for case in cases], score_thresh) for i, name in enumerate(names)
            },
            "confusion": confusion(cases, score_thresh),
            "by_patient": {
                name: {"slides": [case.name for case in members], **score(members, score_thresh)}
                for name, members in by_patient.items()
            },
            "by_slide": {case.name: {**score([case], score_thresh), **_circumstances(case)} for case in cases},
        }
        return cls(result, cases, statistics.matches, samples)


def score(cases: Sequence[SlideCase], score_thresh: float) -> dict[str, Any]:
    """Of ``cases``, in percent: AP, and precision, recall, F1 (IoU 0.5) and F1 of centre hits at ``score_thresh``."""
    truth, found = {case.name: case.truth for case in cases}, {case.name: case.found for case in cases}
    counts = match_all(truth, found, match_by_iou).counts(score_thresh)
    centre = match_all(truth, found, match_by_centre).counts(score_thresh)
    rates = {"precision": counts.precision, "recall": counts.recall, "F1": counts.f1, "centre_F1": centre.f1}
    return {
        **coco_scores(truth, found),
        **{name: None if rate is None else 100 * rate for name, rate in rates.items()},
        "num_objects": counts.num_objects,
        "true_positives": counts.true_positives,
        "false_positives": counts.false_positives,
    }


class _Statistics:
    """All figures that get an interval, for any weights of the slides; everything is matched once, here."""

    def __init__(self, cases: Sequence[SlideCase], score_thresh: float) -> None:
        truth, found = {case.name: case.truth for case in cases}, {case.name: case.found for case in cases}
        self.matches = match_all(truth, found, match_by_iou)
        self._centre = match_all(truth, found, match_by_centre)
        self._thresh = score_thresh
        self._average_precision = WeightedAP(truth, found)
        self._sizes = SizeBins.of(cases, self.matches, score_thresh)
        self._tissue_mm2 = np.array([case.tissue_mm2 for case in cases])

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(B, I) -> (B,) by name, rates in percent; NaN where one has no meaning."""
        right, wrong = self.matches.per_image(self._thresh)
        froc = self._froc(weights)
        return {
            **self._average_precision(weights),
            "precision": 100 * _ratio(weights @ right, weights @ (right + wrong)),
            "recall": 100 * _ratio(weights @ right, weights @ self.matches.num_objects),
            "F1": self._f1(self.matches, weights),
            "centre_F1": self._f1(self._centre, weights),
            **{f"froc_{unit}": 100 * table.mean(axis=1) for unit, table in froc.items()},
            **{f"count_{k}": v for k, v in agreement(self.matches.num_objects, right + wrong, weights).items()},
            **_by_bin("recall", self._sizes, self._sizes.recall(weights)),
            **_by_bin("F1", self._sizes, self._sizes.f1(weights)),
        }

    def result(self) -> dict[str, Any]:
        """The figures that are no single number, each slide counting once, as plain JSON."""
        once = np.ones((1, len(self._tissue_mm2)))
        right, wrong = self.matches.per_image(self._thresh)
        counts = {k: _plain(v[0]) for k, v in agreement(self.matches.num_objects, right + wrong).items()}
        froc = {unit: 100 * table[0] for unit, table in self._froc(once).items()}
        bins = self._sizes
        return {
            "froc": {
                unit: {
                    "mean": _plain(found.mean()),
                    "at": {f"{rate:g}": _plain(value) for rate, value in zip(_FROC[unit], found, strict=True)},
                }
                for unit, found in froc.items()
            },
            "counts": {"found": int((right + wrong).sum()), **counts},
            "by_size_um": {
                name: {
                    "num_objects": int(bins.num_objects[i].sum()),
                    "true_positives": int(bins.right[i].sum()),
                    "false_positives": int(bins.wrong[i].sum()),
                    "recall": _plain(100 * bins.recall(once)[0, i]),
                    "F1": _plain(100 * bins.f1(once)[0, i]),
                }
                for i, name in enumerate(bins.names)
            },
        }

    def _froc(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        amounts = {"per_slide": np.ones(len(self._tissue_mm2)), "per_mm2": self._tissue_mm2}
        return {unit: sensitivity_at(self.matches, amounts[unit], rates, weights) for unit, rates in _FROC.items()}

    def _f1(self, matches: Matches, weights: np.ndarray) -> np.ndarray:
        right, wrong = matches.per_image(self._thresh)
        return 100 * _ratio(2 * (weights @ right), weights @ (right + wrong + matches.num_objects))


_FROC = {"per_slide": PER_SLIDE, "per_mm2": PER_MM2}


def _by_bin(figure: str, bins: SizeBins, table: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{figure}_{name}_um": 100 * column for name, column in zip(bins.names, table.T, strict=True)}


def _circumstances(case: SlideCase) -> dict[str, Any]:
    seconds = {} if case.seconds is None else {"seconds": round(case.seconds, 3)}
    return {"patient": case.patient, "tissue_mm2": round(case.tissue_mm2, 4), **seconds}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part, float) / whole


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
