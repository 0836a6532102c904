"""The metrics of a detector on whole slides, also by class and by size, with intervals by patient, as plain JSON."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mhkd.evaluation.coco import WeightedAP, coco_scores
from mhkd.evaluation.matching import (
    PER_MM2,
    PER_SLIDE,
    Matches,
    match,
    match_all,
    match_by_centre,
    match_by_iou,
    sensitivity_at,
)
from mhkd.evaluation.scored_slide import GroundTruth, ScoredSlide, by_name
from mhkd.evaluation.statistics import LEVEL, agreement, draw_weights, interval, resample

DRAWS, SEED = 1000, 0
COMPARED = ("AP", "AP50", "F1", "centre_F1")
SIZE_EDGES_UM = (100.0, 150.0, 200.0)
MISSED, NOTHING = "(missed)", "(nothing)"
"""In a confusion table: the column of objects without a detection, and the row of detections without an object."""
_FROC = {"per_slide": PER_SLIDE, "per_mm2": PER_MM2}


@dataclass(frozen=True)
class SlideMetrics:
    """What a detector is worth on whole slides.

    Attributes:
        result: all metrics as plain JSON, rates in percent (docs/evaluation.md says what each is).
        slides: sorted by name.
        matches: at IoU 0.5, image i being ``slides[i]``.
        samples: the draws of the bootstrap by metric, (draws,) each; empty where there was none.
    """

    result: dict[str, Any]
    slides: tuple[ScoredSlide, ...]
    matches: Matches
    samples: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, slides: Sequence[ScoredSlide], score_thresh: float, *, draws: int = DRAWS, seed: int = SEED
    ) -> SlideMetrics:
        """The metrics of ``slides``.

        Args:
            slides: one or more, each once, all of one model.
            score_thresh: where precision, recall and F1 are taken and objects counted; choose it on other slides.
            draws: of the bootstrap by patient, 0 for none; one patient alone gives no intervals.
            seed: of the draws.

        Raises:
            ValueError: there is no slide, or two have the same name.
        """
        slides = tuple(sorted(slides, key=lambda slide: slide.name))
        if len({slide.name for slide in slides}) < len(slides) or not slides:
            raise ValueError("metrics need one or more slides, each once")
        statistics = _Statistics(slides, score_thresh)
        patients = [slide.patient for slide in slides]
        by_patient = {name: [slide for slide in slides if slide.patient == name] for name in sorted(set(patients))}
        samples: dict[str, np.ndarray] = {}
        if draws and len(by_patient) > 1:
            samples = resample(statistics, draw_weights(patients, draws, seed), len(statistics.matches.scores))
        names = slides[0].detections.class_names
        result = {
            **score(slides, score_thresh),
            **statistics.result(),
            "score_thresh": score_thresh,
            "num_slides": len(slides),
            "num_patients": len(by_patient),
            "tissue_mm2": round(sum(slide.tissue_mm2 for slide in slides), 4),
            "intervals": {name: interval(values) for name, values in samples.items()},
            "bootstrap": {"unit": "patient", "draws": draws if samples else 0, "seed": seed, "level": LEVEL},
            "by_class": {
                name: score([slide.of_class(i) for slide in slides], score_thresh) for i, name in enumerate(names)
            },
            "confusion": confusion(slides, score_thresh),
            "by_patient": {
                name: {"slides": [slide.name for slide in members], **score(members, score_thresh)}
                for name, members in by_patient.items()
            },
            "by_slide": {slide.name: {**score([slide], score_thresh), **_circumstances(slide)} for slide in slides},
        }
        return cls(result, slides, statistics.matches, samples)


def score(slides: Sequence[ScoredSlide], score_thresh: float) -> dict[str, Any]:
    """The metrics of ``slides`` that need no bootstrap, as plain JSON.

    Returns:
        In percent: COCO's AP, and precision, recall, F1 (IoU 0.5) and F1 of centre hits at ``score_thresh``, None where
        one has no meaning; and the counts that they are made of.
    """
    gt, pred = by_name(slides)
    counts = match_all(gt, pred, match_by_iou).counts(score_thresh)
    centre = match_all(gt, pred, match_by_centre).counts(score_thresh)
    rates = {"precision": counts.precision, "recall": counts.recall, "F1": counts.f1, "centre_F1": centre.f1}
    return {
        **coco_scores(gt, pred),
        **{name: None if rate is None else 100 * rate for name, rate in rates.items()},
        "num_objects": counts.num_objects,
        "true_positives": counts.true_positives,
        "false_positives": counts.false_positives,
    }


def confusion(slides: Sequence[ScoredSlide], score_thresh: float) -> dict[str, dict[str, int]]:
    """How often each true class was detected as each class.

    Detections that score ``score_thresh`` or more are matched one to one at IoU 0.5, best first, whatever their class.

    Args:
        slides: one or more, all of one model.

    Returns:
        ``{true: {detected: count}}``. An object without a detection counts in the column ``MISSED``; a detection
        without an object, such as a second one of another class on the same object, in the row ``NOTHING``.
    """
    names = slides[0].detections.class_names
    counts = np.zeros((len(names) + 1, len(names) + 1), dtype=int)
    for slide in slides:
        gt, pred = slide.ground_truth, slide.detections.select(slide.detections.scores >= score_thresh)
        one_class = GroundTruth(gt.boxes_l0, np.zeros_like(gt.labels), gt.ignore)
        pred_index, gt_index = match(one_class, replace(pred, labels=np.zeros_like(pred.labels)))
        rows = np.where(gt_index >= 0, gt.labels[gt_index] if len(gt) else len(names), len(names))
        np.add.at(counts, (rows, pred.labels[pred_index]), 1)
        missed = np.setdiff1d(np.flatnonzero(~gt.ignore), gt_index)
        np.add.at(counts, (gt.labels[missed], len(names)), 1)
    columns = (*names, MISSED)
    return {
        true: dict(zip(columns, row, strict=True)) for true, row in zip((*names, NOTHING), counts.tolist(), strict=True)
    }


def compare_last(metrics: Mapping[str, SlideMetrics]) -> dict[str, dict[str, Any]]:
    """By how many points the last of ``metrics`` is better than each of the others, as plain JSON.

    Returns:
        ``{other: {"AP": {"difference": d, "interval": [low, high] or None}, ...}}``. Intervals are paired: each draw of
        patients gives both models' metrics, so what is hard for both cancels.

    Raises:
        ValueError: the slides differ.
    """
    if not metrics:
        return {}
    *others, last = metrics
    slides = {tuple(slide.name for slide in one.slides) for one in metrics.values()}
    if len(slides) > 1:
        raise ValueError("models are compared on the same slides only")
    return {other: {name: _difference(metrics[last], metrics[other], name) for name in COMPARED} for other in others}


def _difference(one: SlideMetrics, other: SlideMetrics, name: str) -> dict[str, Any]:
    values = one.result[name], other.result[name]
    return {
        "difference": None if None in values else values[0] - values[1],
        "interval": interval(one.samples[name] - other.samples[name]) if one.samples and other.samples else None,
    }


def equivalent_diameter_um(boxes_l0: np.ndarray, mpp: float) -> np.ndarray:
    """(N, 4) -> (N,): the diameter of the circle with the area of the ellipse in each box, in micrometres."""
    return np.sqrt(np.prod(boxes_l0[:, 2:] - boxes_l0[:, :2], axis=1)) * mpp


@dataclass(frozen=True)
class SizeBins:
    """Counts by size and slide, (bins, I): true objects, those detected, and wrong detections by their own size."""

    num_objects: np.ndarray
    right: np.ndarray
    wrong: np.ndarray

    @classmethod
    def of(cls, slides: Sequence[ScoredSlide], matches: Matches, score_thresh: float) -> SizeBins:
        """From the matches of ``slides`` at ``score_thresh``; a size on an edge is in the bin above it."""
        shape = (len(SIZE_EDGES_UM) + 1, len(slides))
        num_objects, right, wrong = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for i, slide in enumerate(slides):
            gt, pred = slide.ground_truth, slide.detections
            gt_bin = np.digitize(equivalent_diameter_um(gt.boxes_l0, slide.mpp), SIZE_EDGES_UM)
            pred_bin = np.digitize(equivalent_diameter_um(pred.boxes_l0, slide.mpp), SIZE_EDGES_UM)
            here = (matches.image == i) & (matches.scores >= score_thresh)
            np.add.at(num_objects[:, i], gt_bin[~gt.ignore], 1)
            np.add.at(right[:, i], gt_bin[matches.gt_index[here & matches.correct]], 1)
            np.add.at(wrong[:, i], pred_bin[matches.pred_index[here & ~matches.correct]], 1)
        return cls(num_objects, right, wrong)

    @property
    def names(self) -> list[str]:
        """Such as ``<100``, ``100-150``, ``>=150``."""
        edges = [f"{edge:g}" for edge in SIZE_EDGES_UM]
        return [f"<{edges[0]}", *map("-".join, itertools.pairwise(edges)), f">={edges[-1]}"]

    def recall(self, weights: np.ndarray) -> np.ndarray:
        """Where slide i counts ``weights[:, i]`` times, (B, I): (B, bins), NaN in a bin without objects."""
        return _ratio(weights @ self.right.T, weights @ self.num_objects.T)

    def f1(self, weights: np.ndarray) -> np.ndarray:
        """As :meth:`recall`, NaN in a bin without objects and without wrong detections."""
        return _f1(weights, self.right.T, self.wrong.T, self.num_objects.T)


class _Statistics:
    """All metrics that get an interval, for any weights of the slides; everything is matched once, here."""

    def __init__(self, slides: Sequence[ScoredSlide], score_thresh: float) -> None:
        gt, pred = by_name(slides)
        self.matches = match_all(gt, pred, match_by_iou)
        self._right, self._wrong = self.matches.per_image(score_thresh)
        self._centre_counts = match_all(gt, pred, match_by_centre).per_image(score_thresh)
        self._average_precision = WeightedAP(gt, pred)
        self._sizes = SizeBins.of(slides, self.matches, score_thresh)
        self._tissue_mm2 = np.array([slide.tissue_mm2 for slide in slides])

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(B, I) -> (B,) by name, rates in percent; NaN where one has no meaning."""
        found, num_objects, froc = self._right + self._wrong, self.matches.num_objects, self._froc(weights)
        return {
            **self._average_precision(weights),
            "precision": 100 * _ratio(weights @ self._right, weights @ found),
            "recall": 100 * _ratio(weights @ self._right, weights @ num_objects),
            "F1": 100 * _f1(weights, self._right, self._wrong, num_objects),
            "centre_F1": 100 * _f1(weights, *self._centre_counts, num_objects),
            **{f"froc_{unit}": 100 * table.mean(axis=1) for unit, table in froc.items()},
            **{f"count_{k}": v for k, v in agreement(num_objects, found, weights).items()},
            **_by_bin("recall", self._sizes, self._sizes.recall(weights)),
            **_by_bin("F1", self._sizes, self._sizes.f1(weights)),
        }

    def result(self) -> dict[str, Any]:
        """The metrics that are no single number, each slide counting once, as plain JSON."""
        once = np.ones((1, len(self._tissue_mm2)))
        bins, num_found = self._sizes, self._right + self._wrong
        counts = {k: _plain(v[0]) for k, v in agreement(self.matches.num_objects, num_found).items()}
        froc = {unit: 100 * table[0] for unit, table in self._froc(once).items()}
        return {
            "froc": {
                unit: {
                    "mean": _plain(found.mean()),
                    "at": {f"{rate:g}": _plain(value) for rate, value in zip(_FROC[unit], found, strict=True)},
                }
                for unit, found in froc.items()
            },
            "counts": {"found": int(num_found.sum()), **counts},
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


def _by_bin(metric: str, bins: SizeBins, table: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{metric}_{name}_um": 100 * column for name, column in zip(bins.names, table.T, strict=True)}


def _circumstances(slide: ScoredSlide) -> dict[str, Any]:
    seconds = {} if slide.seconds is None else {"seconds": round(slide.seconds, 3)}
    return {"patient": slide.patient, "tissue_mm2": round(slide.tissue_mm2, 4), **seconds}


def _f1(weights: np.ndarray, right: np.ndarray, wrong: np.ndarray, num_objects: np.ndarray) -> np.ndarray:
    return _ratio(2 * (weights @ right), weights @ (right + wrong + num_objects))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part, float) / whole


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
