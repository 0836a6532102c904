"""COCO scores against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhkd.evaluation.coco import WeightedAP, coco_scores
from mhkd.evaluation.scored_slide import GroundTruth
from mhkd.structures import SlideDetections

NAMES = ("glomerulus", "other")


def truth(boxes, labels=None, ignore=None):
    return GroundTruth.of(boxes, [NAMES[i] for i in labels or [0] * len(boxes)], NAMES, ignore)


def found(boxes, scores, labels=None):
    return SlideDetections(np.array(boxes, dtype=float), np.array(scores), np.array(labels or [0] * len(scores)), NAMES)


A, B = [0, 0, 100, 100], [500, 500, 600, 600]


def test_perfect():
    scores = coco_scores({"s": truth([A, B]), "empty": truth([])}, {"s": found([A, B], [0.9, 0.8])})
    assert scores == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100, "AR": 100})


def test_one_of_two_found():
    # Precision 1 up to recall 0.5: 51 of the 101 recall points 0, 0.01, ..., 1.
    scores = coco_scores({"s": truth([A]), "t": truth([B])}, {"s": found([A], [0.9])})
    assert scores == pytest.approx({"AP": 5100 / 101, "AP50": 5100 / 101, "AP75": 5100 / 101, "AR": 50})


def test_a_shifted_box_counts_up_to_its_iou():
    # Shifted by 24 of 100: IoU 76 / 124 = 0.613, so right at 0.5, 0.55 and 0.6, wrong at the other seven.
    scores = coco_scores({"s": truth([A])}, {"s": found([[24, 0, 124, 100]], [0.9])})
    assert scores == pytest.approx({"AP": 30, "AP50": 100, "AP75": 0, "AR": 30})


def test_a_duplicate_costs_precision_where_it_comes_before_a_hit():
    boxes, scores = [A, A, B], [0.9, 0.8, 0.7]
    # Up to recall 0.5 precision 1 (51 points), beyond it 2 hits of 3 (50 points).
    result = coco_scores({"s": truth([A, B])}, {"s": found(boxes, scores)})
    assert result["AP"] == pytest.approx((51 + 50 * 2 / 3) / 1.01)


def test_a_false_box_with_the_best_score_halves_the_precision():
    scores = coco_scores({"s": truth([A]), "t": truth([])}, {"s": found([A], [0.5]), "t": found([B], [0.9])})
    assert scores["AP"] == pytest.approx(50)


def test_an_ignored_object_costs_nothing_found_or_not():
    gt = {"s": truth([A, B], ignore=[False, True])}
    assert coco_scores(gt, {"s": found([B, A], [0.9, 0.5])})["AP"] == pytest.approx(100)
    assert coco_scores(gt, {"s": found([A], [0.5])})["AP"] == pytest.approx(100)


def test_more_than_a_hundred_objects_in_one_image_count():
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(250)]
    assert coco_scores({"s": truth(boxes)}, {"s": found(boxes, np.linspace(0.9, 0.1, 250))})["AP"] == pytest.approx(100)


def test_boxes_as_large_as_a_slide_count():
    huge = [0, 0, 200_000, 150_000]  # 3e10 px, beyond COCO's own limit
    assert coco_scores({"s": truth([huge])}, {"s": found([huge], [0.9])})["AP"] == pytest.approx(100)


def test_classes_are_averaged_and_those_without_objects_left_out():
    gt = {"s": truth([A, B], [0, 1])}
    assert coco_scores(gt, {"s": found([A, B], [0.9, 0.8], [0, 0])})["AP"] == pytest.approx(50)
    assert coco_scores({"s": truth([A])}, {"s": found([A, B], [0.9, 0.8], [0, 1])})["AP"] == pytest.approx(100)


def test_scale_changes_nothing():
    gt, pred = np.array([A, B], float), np.array([[24, 0, 124, 100], [510, 500, 610, 600]], float)
    one = coco_scores({"s": truth(gt)}, {"s": found(pred, [0.9, 0.8])})
    other = coco_scores({"s": truth(gt / 8)}, {"s": found(pred / 8, [0.9, 0.8])})
    assert one == pytest.approx(other)


def test_nothing_to_find_has_no_score_and_prints_nothing(capsys):
    assert set(coco_scores({"s": truth([])}, {"s": found([A], [0.9])}).values()) == {None}
    assert coco_scores({"s": truth([A])}, {}) == {"AP": 0, "AP50": 0, "AP75": 0, "AR": 0}
    assert capsys.readouterr().out == ""


def test_detections_in_an_unknown_image_are_a_mistake():
    with pytest.raises(ValueError, match="without ground truth: t"):
        coco_scores({"s": truth([A])}, {"t": found([A], [0.9])})


@st.composite
def images(draw):
    """Three images with objects of two classes, some to be ignored, and detections of which no two score the same."""
    gt, pred, order = {}, {}, iter(draw(st.permutations(range(30))))
    for name in "abc":
        places = [[50 * i, 0, 50 * i + 40, 40] for i in range(draw(st.integers(0, 4)))]
        labels = [draw(st.integers(0, 1)) for _ in places]
        gt[name] = truth(places, labels, [draw(st.integers(0, 4)) == 0 for _ in places])
        shifts = [draw(st.integers(0, 30)) for _ in range(draw(st.integers(0, 6)))]
        rows = [[50 * i + shift, 0, 50 * i + 40 + shift, 40] for i, shift in enumerate(shifts)]
        pred[name] = found(rows, [(next(order) + 1) / 40 for _ in rows], [draw(st.integers(0, 1)) for _ in rows])
    return gt, pred


@settings(max_examples=50, deadline=None)
@given(images(), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_a_weighted_image_counts_as_so_many_copies_of_it(cohort, copies):
    gt, pred = cohort
    drawn = [(name, f"{name}{i}") for name, n in zip("abc", copies, strict=True) for i in range(n)]
    copied = coco_scores({new: gt[old] for old, new in drawn}, {new: pred[old] for old, new in drawn})
    weighted = WeightedAP(gt, pred)(np.array([copies], float))
    for name, (value,) in weighted.items():
        assert (None if np.isnan(value) else pytest.approx(value)) == copied[name]
