from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhkd.evaluation.matching import (
    Counts,
    Matches,
    best_f1_thresh,
    froc_curve,
    match_all,
    match_by_centre,
    match_by_iou,
    sensitivity_at,
)
from mhkd.evaluation.scored_slide import GroundTruth
from mhkd.structures import SlideDetections

NAMES = ("glomerulus", "other")
A, B, C = [0, 0, 100, 100], [500, 500, 600, 600], [900, 900, 1000, 1000]


def truth(boxes, labels=None, ignore=None):
    return GroundTruth.of(boxes, [NAMES[i] for i in labels or [0] * len(boxes)], NAMES, ignore)


def found(boxes, scores, labels=None):
    return SlideDetections(np.array(boxes, dtype=float), np.array(scores), np.array(labels or [0] * len(scores)), NAMES)


def match(gt, pred, *criterion):
    """(scores, correct) of one image, best first."""
    matches = match_all({"s": gt}, {"s": pred}, *criterion)
    return matches.scores, matches.correct


def count(gt, pred, thresh):
    return match_all(gt, pred).counts(thresh)


def test_a_second_box_on_the_same_object_is_wrong():
    scores, correct = match(truth([A]), found([A, A], [0.6, 0.9]))
    assert scores.tolist() == [0.9, 0.6]
    assert correct.tolist() == [True, False]


def test_the_class_must_be_right():
    assert match(truth([A], [1]), found([A], [0.9]))[1].tolist() == [False]


def test_what_lies_in_an_ignored_object_is_not_counted():
    scores, correct = match(truth([A, B], ignore=[True, False]), found([[0, 0, 50, 50], B], [0.9, 0.8]))
    assert (scores.tolist(), correct.tolist()) == ([0.8], [True])


def test_counts_over_slides_and_their_rates():
    gt = {"s": truth([A, B]), "t": truth([C])}
    pred = {"s": found([A, C], [0.9, 0.8]), "t": found([C], [0.4])}
    counts = count(gt, pred, 0.5)
    assert counts == Counts(true_positives=1, false_positives=1, num_objects=3)
    assert (counts.precision, counts.recall) == (pytest.approx(1 / 2), pytest.approx(1 / 3))
    assert counts.f1 == pytest.approx(2 / 5)


def test_rates_without_meaning_are_none():
    assert (Counts(0, 0, 0).precision, Counts(0, 0, 0).recall, Counts(0, 0, 0).f1) == (None, None, None)
    assert Counts(0, 0, 5).f1 == 0


def test_the_best_threshold_keeps_the_hits_and_drops_the_rest():
    gt = {"s": truth([A, B])}
    assert best_f1_thresh(match_all(gt, {"s": found([A, B, C], [0.9, 0.6, 0.3])})) == 0.6
    assert best_f1_thresh(match_all(gt, {"s": found([C], [0.3])})) is None
    assert best_f1_thresh(match_all({"s": truth([])}, {})) is None


def test_the_threshold_does_not_pretend_to_tell_equal_scores_apart():
    gt = {"s": truth([A, B])}
    pred = {"s": found([A, C, B], [0.9, 0.5, 0.5])}
    thresh = best_f1_thresh(match_all(gt, pred))
    assert thresh == 0.5  # F1 at 0.9: 2 / 3; at 0.5: 4 / 5
    assert count(gt, pred, thresh).f1 == pytest.approx(4 / 5)


def test_a_detection_takes_the_free_object_that_it_overlaps_most():
    near, far = [0, 0, 100, 100], [10, 0, 110, 100]
    matches = match_all({"s": truth([far, near])}, {"s": found([[1, 0, 101, 100], [1, 0, 101, 100]], [0.9, 0.8])})
    assert matches.gt_index.tolist() == [1, 0]
    assert matches.pred_index.tolist() == [0, 1]


def test_a_centre_hit_needs_no_overlap_of_half():
    small = [40, 40, 60, 60]  # IoU 0.04
    assert match(truth([A]), found([small], [0.9]))[1].tolist() == [False]
    assert match(truth([A]), found([small], [0.9]), match_by_centre)[1].tolist() == [True]
    beside = [60, 0, 160, 100]  # its centre is outside, at x = 110
    assert match(truth([A]), found([beside], [0.9]), match_by_centre)[1].tolist() == [False]


def test_centre_hits_are_one_to_one_and_take_the_nearest_centre():
    left, right = [0, 0, 100, 100], [90, 0, 190, 100]
    on_both = [70, 0, 118, 100]  # centre 94: in both boxes, nearer to 50 than to 140
    matches = match_all(
        {"s": truth([right, left])}, {"s": found([on_both, on_both, left], [0.9, 0.8, 0.7])}, match_by_centre
    )
    assert matches.gt_index.tolist() == [1, 0, -1]


def test_centre_hits_keep_classes_and_ignored_objects_apart():
    assert match(truth([A], [1]), found([A], [0.9]), match_by_centre)[1].tolist() == [False]
    scores, correct = match(truth([A, B], ignore=[True, False]), found([A, B], [0.9, 0.8]), match_by_centre)
    assert (scores.tolist(), correct.tolist()) == ([0.8], [True])


def test_the_cumulative_counts_follow_the_weights_of_the_images():
    gt = {"s": truth([A, B]), "t": truth([C])}
    matches = match_all(gt, {"s": found([A, C], [0.9, 0.5]), "t": found([C], [0.5])})
    hits, misses = matches.cumulative(np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert matches.thresholds().tolist() == [0.9, 0.5]
    assert hits.tolist() == [[1, 2], [2, 2]]
    assert misses.tolist() == [[0, 1], [0, 2]]
    assert matches.num_objects.tolist() == [2, 1]


boxes = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), *[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes, max_size=8), st.lists(st.tuples(boxes, st.integers(0, 4)), max_size=8), st.data())
def test_matching_is_one_to_one_and_blind_to_the_order(objects, detections, data):
    gt, pred = truth(objects), found([box for box, _ in detections], [score / 4 for _, score in detections])
    criterion = data.draw(st.sampled_from([match_by_iou, match_by_centre]))
    matches = match_all({"s": gt}, {"s": pred}, criterion)
    taken = matches.gt_index[matches.correct]
    assert len(set(taken)) == len(taken) <= min(len(objects), len(detections))
    assert len(matches.scores) == len(detections)
    shuffled = np.array(data.draw(st.permutations(range(len(detections)))), dtype=int)
    again = match_all({"s": gt}, {"s": pred.select(shuffled)}, criterion)
    assert again.scores.tolist() == matches.scores.tolist()
    assert again.correct.sum() == matches.correct.sum()


def matches(scores, correct, image, num_objects):
    order = np.argsort(-np.array(scores, float), kind="stable")
    nothing = np.zeros(len(order), int)
    return Matches(
        np.array(scores, float)[order],
        np.array(correct, bool)[order],
        np.array(image, int)[order],
        nothing,
        nothing,
        np.array(num_objects),
    )


# Two slides, five objects; down the scores: hit, wrong, hit, wrong, hit.
EXAMPLE = matches([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 0, 1], [0, 1, 1, 0, 0], [3, 2])


def test_sensitivity_at_rates_per_slide_by_hand():
    # 0 false: 1 of 5; up to 1 false in 2 slides (0.5): 2 of 5; up to 2 (1): 3 of 5.
    found = sensitivity_at(EXAMPLE, np.ones(2), (0.0, 0.25, 0.5, 1.0, 8.0))
    np.testing.assert_allclose(found, [[0.2, 0.2, 0.4, 0.6, 0.6]])


def test_sensitivity_per_mm2_by_hand():
    # 1 false in 4 mm2 is 0.25, 2 are 0.5.
    found = sensitivity_at(EXAMPLE, np.array([1.0, 3.0]), (0.2, 0.25, 0.5))
    np.testing.assert_allclose(found, [[0.2, 0.4, 0.6]])


def test_weights_say_how_often_a_slide_counts():
    # The first slide twice: 6 objects; hit(2), hit... of slide 0 only: 0.9 right, 0.6 wrong, 0.5 right.
    found = sensitivity_at(EXAMPLE, np.ones(2), (0.5, 1.0), np.array([[2.0, 0.0]]))
    np.testing.assert_allclose(found, [[2 / 6, 4 / 6]])


def test_equal_scores_stand_or_fall_together():
    tied = matches([0.9, 0.9], [1, 0], [0, 0], [1])
    np.testing.assert_allclose(sensitivity_at(tied, np.ones(1), (0.5, 1.0)), [[0.0, 1.0]])


def test_nothing_found_and_nothing_to_find():
    np.testing.assert_allclose(sensitivity_at(matches([], [], [], [4]), np.ones(1), (1.0,)), [[0.0]])
    assert np.isnan(sensitivity_at(matches([0.5], [0], [0], [0]), np.ones(1), (1.0,))).all()
    assert np.isnan(sensitivity_at(EXAMPLE, np.zeros(2), (1.0,))).all()


def test_the_curve_has_a_point_per_score():
    false, share = froc_curve(EXAMPLE, 2.0)
    assert false.tolist() == [0, 0.5, 0.5, 1, 1]
    assert share.tolist() == pytest.approx([0.2, 0.2, 0.4, 0.4, 0.6])


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=20))
def test_more_false_detections_never_find_less(rows):
    some = matches([s for s, _ in rows], [c for _, c in rows], [0] * len(rows), [20])
    found = sensitivity_at(some, np.ones(1), (0.0, 1.0, 2.0, 5.0, 50.0))[0]
    assert (np.diff(found) >= 0).all()
    assert found[-1] == sum(c for _, c in rows) / 20
