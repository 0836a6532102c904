from __future__ import annotations

import json

import numpy as np
import pytest

from mhkd.evaluation.comparison import compare_last
from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.evaluation.metrics import SlideFigures, score
from mhkd.evaluation.scored_slide import SlideCase
from mhkd.structures import SlideDetections

NAMES = ("glomerulus",)


def case(name, patient, hits, misses, false, tissue_mm2=10.0):
    """A slide with hits + misses objects of 100 um, of which ``hits`` are found with 0.9, and ``false`` with 0.6."""
    truth = [[500 * i, 0, 500 * i + 200, 200] for i in range(hits + misses)]
    wrong = [[500 * i, 5000, 500 * i + 200, 5200] for i in range(false)]
    boxes = np.array(truth[:hits] + wrong, dtype=float).reshape(-1, 4)
    scores = np.array([0.9] * hits + [0.6] * false)
    gt = GroundTruth.of(truth, ["glomerulus"] * len(truth), NAMES)
    return SlideCase(name, patient, 0.5, tissue_mm2, gt, SlideDetections(boxes, scores, np.zeros(len(scores)), NAMES))


COHORT = [case("c", "p2", 8, 2, 1), case("a", "p1", 4, 0, 0), case("b", "p1", 3, 3, 2, 20.0), case("d", "p3", 0, 0, 1)]


def test_figures_by_hand():
    result = SlideFigures.of(COHORT, 0.5).result
    assert (result["num_slides"], result["num_patients"], result["num_objects"]) == (4, 3, 20)
    assert (result["true_positives"], result["false_positives"], result["tissue_mm2"]) == (15, 4, 50)
    assert result["F1"] == result["centre_F1"] == pytest.approx(100 * 30 / 39)
    # Counts of a, b, c, d: true 4, 6, 10, 0; found 4, 5, 9, 1.
    assert result["counts"]["found"] == 19
    assert result["counts"]["bias"] == pytest.approx(-1 / 4)
    assert result["counts"]["mean_absolute_error"] == pytest.approx(3 / 4)
    # All hits come before the first false detection; at 0.6 come four of them, one a slide.
    assert list(result["froc"]["per_slide"]["at"]) == ["0.25", "0.5", "1", "2", "4", "8"]
    assert set(result["froc"]["per_slide"]["at"].values()) == {result["froc"]["per_slide"]["mean"]} == {75}
    assert result["froc"]["per_mm2"]["at"]["1"] == pytest.approx(75)
    assert result["by_size_um"]["100-150"] == {
        "num_objects": 20,
        "true_positives": 15,
        "false_positives": 4,
        "recall": pytest.approx(75),
        "F1": pytest.approx(100 * 30 / 39),
    }
    assert result["by_size_um"]["<100"]["recall"] is None
    assert result["by_patient"]["p1"]["slides"] == ["a", "b"]
    assert result["by_slide"]["b"] == {**score([COHORT[2]], 0.5), "patient": "p1", "tissue_mm2": 20}
    json.dumps(result, allow_nan=False)


def test_every_interval_holds_its_figure_and_the_figure_is_that_of_each_slide_once():
    figures = SlideFigures.of(COHORT, 0.5, draws=200)
    result = figures.result
    assert result["bootstrap"] == {"unit": "patient", "draws": 200, "seed": 0, "level": 0.95}
    for name in ("AP", "AP50", "AP75", "precision", "recall", "F1", "centre_F1"):
        low, high = result["intervals"][name]
        assert low <= result[name] <= high
        assert low < high
        # Patients p1, p2, p3, once each, is one of the draws.
        assert np.nanmin(np.abs(figures.samples[name] - result[name])) < 1e-9
    assert result["intervals"]["recall_100-150_um"] == result["intervals"]["recall"]
    assert result["intervals"]["recall_<100_um"] is None


def test_one_patient_has_no_interval():
    result = SlideFigures.of(COHORT[1:3], 0.5).result
    assert (result["intervals"], result["bootstrap"]["draws"]) == ({}, 0)


def test_neither_objects_nor_detections():
    result = SlideFigures.of([case("a", "p", 0, 0, 0, 0.0), case("b", "q", 0, 0, 0, 0.0)], 0.5).result
    assert (result["AP"], result["F1"], result["froc"]["per_mm2"]["mean"]) == (None, None, None)
    assert result["intervals"]["AP"] is None
    json.dumps(result, allow_nan=False)


def test_a_slide_counts_once():
    with pytest.raises(ValueError, match="each once"):
        SlideFigures.of([COHORT[0], COHORT[0]], 0.5)


def test_what_is_hard_for_both_models_cancels_in_their_difference():
    easy = [case(f"s{i}", f"p{i}", n, 2 * i, 0) for i, n in enumerate((9, 8, 7, 6))]
    worse = [case(f"s{i}", f"p{i}", n - 1, 2 * i + 1, 0) for i, n in enumerate((9, 8, 7, 6))]
    figures = {"worse": SlideFigures.of(worse, 0.5), "better": SlideFigures.of(easy, 0.5)}
    entry = compare_last(figures)["worse"]["F1"]
    assert entry["difference"] == pytest.approx(figures["better"].result["F1"] - figures["worse"].result["F1"])
    low, high = entry["interval"]
    assert 0 < low <= entry["difference"] <= high
    own = figures["better"].result["intervals"]["F1"]
    assert high - low < own[1] - own[0]


def test_models_are_compared_on_the_same_slides_only():
    with pytest.raises(ValueError, match="same slides"):
        compare_last({"a": SlideFigures.of(COHORT, 0.5), "b": SlideFigures.of(COHORT[1:], 0.5)})
    assert compare_last({"a": SlideFigures.of(COHORT, 0.5)}) == {}
