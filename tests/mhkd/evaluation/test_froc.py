from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhkd.evaluation.froc import curve, sensitivity_at
from mhkd.evaluation.matching import Matches


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
    false, share = curve(EXAMPLE, 2.0)
    assert false.tolist() == [0, 0.5, 0.5, 1, 1]
    assert share.tolist() == pytest.approx([0.2, 0.2, 0.4, 0.4, 0.6])


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=20))
def test_more_false_detections_never_find_less(rows):
    some = matches([s for s, _ in rows], [c for _, c in rows], [0] * len(rows), [20])
    found = sensitivity_at(some, np.ones(1), (0.0, 1.0, 2.0, 5.0, 50.0))[0]
    assert (np.diff(found) >= 0).all()
    assert found[-1] == sum(c for _, c in rows) / 20
