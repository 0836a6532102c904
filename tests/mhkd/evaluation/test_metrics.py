from __future__ import annotations

import json

import numpy as np
import pytest

from mhkd.evaluation.matching import match_all
from mhkd.evaluation.metrics import (
    MISSED,
    NOTHING,
    SizeBins,
    SlideMetrics,
    compare_last,
    confusion,
    equivalent_diameter_um,
    score,
)
from mhkd.evaluation.scored_slide import GroundTruth, ScoredSlide
from mhkd.structures import SlideDetections

NAMES, CLASSES = ("glomerulus",), ("gl", "gs")


def scored_slide(name, patient, hits, misses, false, tissue_mm2=10.0):
    """A slide with hits + misses objects of 100 um, of which ``hits`` are found with 0.9, and ``false`` with 0.6."""
    truth = [[500 * i, 0, 500 * i + 200, 200] for i in range(hits + misses)]
    wrong = [[500 * i, 5000, 500 * i + 200, 5200] for i in range(false)]
    boxes = np.array(truth[:hits] + wrong, dtype=float).reshape(-1, 4)
    scores = np.array([0.9] * hits + [0.6] * false)
    gt = GroundTruth.of(truth, ["glomerulus"] * len(truth), NAMES)
    return ScoredSlide(name, patient, 0.5, tissue_mm2, gt, SlideDetections(boxes, scores, np.zeros(len(scores)), NAMES))


COHORT = [
    scored_slide("c", "p2", 8, 2, 1),
    scored_slide("a", "p1", 4, 0, 0),
    scored_slide("b", "p1", 3, 3, 2, 20.0),
    scored_slide("d", "p3", 0, 0, 1),
]


def test_figures_by_hand():
    result = SlideMetrics.of(COHORT, 0.5).result
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
    metrics = SlideMetrics.of(COHORT, 0.5, draws=200)
    result = metrics.result
    assert result["bootstrap"] == {"unit": "patient", "draws": 200, "seed": 0, "level": 0.95}
    for name in ("AP", "AP50", "AP75", "precision", "recall", "F1", "centre_F1"):
        low, high = result["intervals"][name]
        assert low <= result[name] <= high
        assert low < high
        # Patients p1, p2, p3, once each, is one of the draws.
        assert np.nanmin(np.abs(metrics.samples[name] - result[name])) < 1e-9
    assert result["intervals"]["recall_100-150_um"] == result["intervals"]["recall"]
    assert result["intervals"]["recall_<100_um"] is None


def test_one_patient_has_no_interval():
    result = SlideMetrics.of(COHORT[1:3], 0.5).result
    assert (result["intervals"], result["bootstrap"]["draws"]) == ({}, 0)


def test_neither_objects_nor_detections():
    result = SlideMetrics.of([scored_slide("a", "p", 0, 0, 0, 0.0), scored_slide("b", "q", 0, 0, 0, 0.0)], 0.5).result
    assert (result["AP"], result["F1"], result["froc"]["per_mm2"]["mean"]) == (None, None, None)
    assert result["intervals"]["AP"] is None
    json.dumps(result, allow_nan=False)


def test_a_slide_counts_once():
    with pytest.raises(ValueError, match="each once"):
        SlideMetrics.of([COHORT[0], COHORT[0]], 0.5)


def test_what_is_hard_for_both_models_cancels_in_their_difference():
    easy = [scored_slide(f"s{i}", f"p{i}", n, 2 * i, 0) for i, n in enumerate((9, 8, 7, 6))]
    worse = [scored_slide(f"s{i}", f"p{i}", n - 1, 2 * i + 1, 0) for i, n in enumerate((9, 8, 7, 6))]
    metrics = {"worse": SlideMetrics.of(worse, 0.5), "better": SlideMetrics.of(easy, 0.5)}
    entry = compare_last(metrics)["worse"]["F1"]
    assert entry["difference"] == pytest.approx(metrics["better"].result["F1"] - metrics["worse"].result["F1"])
    low, high = entry["interval"]
    assert 0 < low <= entry["difference"] <= high
    own = metrics["better"].result["intervals"]["F1"]
    assert high - low < own[1] - own[0]


def test_models_are_compared_on_the_same_slides_only():
    with pytest.raises(ValueError, match="same slides"):
        compare_last({"a": SlideMetrics.of(COHORT, 0.5), "b": SlideMetrics.of(COHORT[1:], 0.5)})
    assert compare_last({"a": SlideMetrics.of(COHORT, 0.5)}) == {}


def squares(*places):
    """Squares of 100 px, one at each 1000 px place; 0.5 places away they miss."""
    return np.array([[1000 * x, 0, 1000 * x + 100, 100] for x in places], dtype=float).reshape(-1, 4)


def of_classes(true, found, name="a", ignore=None):
    """A slide with ``true`` {place: class} and ``found`` [(place, class, score)]."""
    truth = GroundTruth.of(squares(*true), list(true.values()), CLASSES, ignore)
    places, classes, scores = zip(*found, strict=True) if found else ((), (), ())
    labels = [CLASSES.index(one) for one in classes]
    return ScoredSlide(name, name, 0.5, 1.0, truth, SlideDetections(squares(*places), scores, labels, CLASSES))


# gl: one right, one called gs, one missed. gs: one right. Beside them a stray gl, and a second opinion on a gl.
MIXED = of_classes(
    {0: "gl", 1: "gl", 2: "gl", 3: "gs"},
    [(0, "gl", 0.9), (0, "gs", 0.6), (1, "gs", 0.8), (3, "gs", 0.7), (8, "gl", 0.75), (2, "gl", 0.1)],
)


def test_each_class_is_scored_as_if_it_were_the_only_one():
    result = SlideMetrics.of([MIXED], 0.5).result["by_class"]
    counted = {k: (v["num_objects"], v["true_positives"], v["false_positives"]) for k, v in result.items()}
    assert counted == {"gl": (3, 1, 1), "gs": (1, 1, 2)}
    assert result["gl"]["F1"] == pytest.approx(100 * 2 / 5)
    # gs: the object is the second of three, and all recall comes with a precision of one half.
    assert result["gs"]["AP50"] == pytest.approx(50)
    # gl: at 0.9 right, at 0.75 wrong, at 0.1 right: 34 of 101 recalls with precision 1, 33 with 2/3, 34 with 0.
    assert result["gl"]["AP50"] == pytest.approx(100 * (34 + 33 * 2 / 3) / 101)


def test_the_ap_of_all_classes_is_their_mean():
    result = SlideMetrics.of([MIXED], 0.5).result
    assert result["AP50"] == pytest.approx(np.mean([one["AP50"] for one in result["by_class"].values()]))


def test_a_class_that_no_slide_has_is_there_without_figures():
    result = SlideMetrics.of([of_classes({0: "gl"}, [(0, "gl", 0.9)])], 0.5).result["by_class"]["gs"]
    assert (result["num_objects"], result["AP"], result["F1"]) == (0, None, None)


def test_a_class_keeps_what_is_to_be_ignored():
    one = of_classes({0: "gl", 1: "gs"}, [(1, "gs", 0.9)], ignore=[False, True]).of_class(1)
    assert (len(one.ground_truth), one.ground_truth.ignore.tolist(), len(one.detections)) == (1, [True], 1)


def test_which_class_is_taken_for_which():
    assert confusion([MIXED], 0.5) == {
        "gl": {"gl": 1, "gs": 1, MISSED: 1},
        "gs": {"gl": 0, "gs": 1, MISSED: 0},
        NOTHING: {"gl": 1, "gs": 1, MISSED: 0},
    }
    assert confusion([MIXED], 0.05)["gl"] == {"gl": 2, "gs": 1, MISSED: 0}


def test_every_object_and_every_detection_is_counted_once():
    slides = [MIXED, of_classes({}, [(0, "gs", 0.9)], "b"), of_classes({4: "gs"}, [], "c")]
    table = confusion(slides, 0.0)
    assert [sum(table[name].values()) for name in CLASSES] == [3, 2]
    assert sum(row[name] for row in table.values() for name in CLASSES) == 7


def test_an_object_to_be_ignored_is_neither_missed_nor_wrongly_found():
    table = confusion([of_classes({0: "gl", 1: "gl"}, [(0, "gs", 0.9)], ignore=[True, True])], 0.5)
    assert sum(sum(row.values()) for row in table.values()) == 0


def square(x, side):
    return [x, 0, x + side, side]


def test_the_diameter_is_that_of_the_ellipse_in_the_box():
    boxes = np.array([[0, 0, 200, 200], [10, 0, 110, 400]], float)
    np.testing.assert_allclose(equivalent_diameter_um(boxes, 0.5), [100, 100])
    ellipse = np.pi / 4 * 100 * 400
    assert equivalent_diameter_um(boxes[1:], 1.0)[0] == pytest.approx(2 * np.sqrt(ellipse / np.pi))


def test_hits_count_by_the_true_size_and_false_ones_by_their_own():
    # At 0.5 um/px: 80, 120 and 220 um. The detection of the second is 160 um large; a wrong one is 90 um.
    truth = GroundTruth.of([square(0, 160), square(1000, 240), square(2000, 440)], ["glomerulus"] * 3, NAMES)
    boxes = np.array([square(0, 160), square(1000, 320), square(5000, 180), square(2000, 440)], float)
    found = SlideDetections(boxes, np.array([0.9, 0.8, 0.7, 0.2]), np.zeros(4), NAMES)
    slide = ScoredSlide("s", "p", 0.5, 1.0, truth, found)
    bins = SizeBins.of([slide], match_all({"s": truth}, {"s": found}), 0.5)
    assert bins.names == ["<100", "100-150", "150-200", ">=200"]
    assert bins.num_objects[:, 0].tolist() == [1, 1, 0, 1]
    assert bins.right[:, 0].tolist() == [1, 1, 0, 0]
    assert bins.wrong[:, 0].tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(bins.recall(np.ones((1, 1))), [[1, 1, np.nan, 0]])
    np.testing.assert_allclose(bins.f1(np.ones((1, 1))), [[2 / 3, 1, np.nan, 0]])


def test_objects_to_be_ignored_are_in_no_bin():
    truth = GroundTruth.of([square(0, 160)], ["glomerulus"], NAMES, [True])
    found = SlideDetections(np.array([square(0, 160)], float), np.array([0.9]), np.zeros(1), NAMES)
    bins = SizeBins.of([ScoredSlide("s", "p", 0.5, 1.0, truth, found)], match_all({"s": truth}, {"s": found}), 0.5)
    assert bins.num_objects.sum() == bins.right.sum() == bins.wrong.sum() == 0
