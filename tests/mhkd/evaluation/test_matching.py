from __future__ import annotations

import numpy as np
import pytest

from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.evaluation.matching import Counts, best_f1_thresh, count, match
from mhkd.structures import SlideDetections

NAMES = ("glomerulus", "other")
A, B, C = [0, 0, 100, 100], [500, 500, 600, 600], [900, 900, 1000, 1000]


def truth(boxes, labels=None, ignore=None):
    return GroundTruth.of(boxes, [NAMES[i] for i in labels or [0] * len(boxes)], NAMES, ignore)


def found(boxes, scores, labels=None):
    return SlideDetections(np.array(boxes, dtype=float), np.array(scores), np.array(labels or [0] * len(scores)), NAMES)


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
    assert best_f1_thresh(gt, {"s": found([A, B, C], [0.9, 0.6, 0.3])}) == 0.6
    assert best_f1_thresh(gt, {"s": found([C], [0.3])}) is None
    assert best_f1_thresh({"s": truth([])}, {}) is None


def test_the_threshold_does_not_pretend_to_tell_equal_scores_apart():
    gt = {"s": truth([A, B])}
    pred = {"s": found([A, C, B], [0.9, 0.5, 0.5])}
    thresh = best_f1_thresh(gt, pred)
    assert thresh == 0.5  # F1 at 0.9: 2 / 3; at 0.5: 4 / 5
    assert count(gt, pred, thresh).f1 == pytest.approx(4 / 5)
