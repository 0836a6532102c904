"""Intervals against the theory, and agreement of counts against numbers worked out by hand and published ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhkd.evaluation import statistics
from mhkd.evaluation.statistics import agreement, draw_weights, icc_2_1, interval, resample


def test_slides_of_one_patient_are_drawn_together_and_the_draws_repeat():
    patients = ["a", "b", "b", "c"]
    weights = draw_weights(patients, 500, seed=3)
    assert weights.shape == (500, 4)
    assert (weights[:, 1] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(4), abs=0.15)
    assert (weights == draw_weights(patients, 500, seed=3)).all()
    assert (weights != draw_weights(patients, 500, seed=4)).any()


def test_the_interval_of_a_mean_is_near_the_theory():
    values = np.random.default_rng(0).normal(10, 2, 100)
    weights = draw_weights([f"p{i}" for i in range(100)], 2000)
    low, high = interval(weights @ values / 100)
    error = values.std() / 10
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.06)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.06)


def test_draws_in_parts_are_the_same_draws(monkeypatch):
    weights = draw_weights(list("abc"), 50)
    sizes = []

    def weighted_sum(part):
        sizes.append(len(part))
        return {"sum": part @ np.arange(3.0)}

    whole = resample(weighted_sum, weights, 10)
    monkeypatch.setattr(statistics, "_CELLS", 100)
    np.testing.assert_array_equal(resample(weighted_sum, weights, 10)["sum"], whole["sum"])
    assert sizes[0] == 50
    assert max(sizes[1:]) <= 10


def test_a_figure_that_mostly_has_no_meaning_has_no_interval():
    nan = float("nan")
    assert interval(np.array([nan, nan, nan, 1.0])) is None
    assert interval(np.array([nan, 1.0, 1.0])) == [1, 1]
    assert interval(np.empty(0)) is None


# Shrout and Fleiss, Psychological Bulletin 86 (1979), table 2: six targets, four judges; table 4: ICC(2,1) = .29.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)


def test_the_published_example():
    assert icc_2_1(SHROUT_FLEISS)[0] == pytest.approx(0.2898, abs=5e-5)


def test_bias_and_limits_by_hand():
    # Differences 0, 2, 4: mean 2, standard deviation 2.
    result = {k: v[0] for k, v in agreement(np.array([10, 20, 30]), np.array([10, 22, 34])).items()}
    assert (result["bias"], result["mean_absolute_error"]) == (2, 2)
    assert (result["lower"], result["upper"]) == (pytest.approx(2 - 3.92), pytest.approx(2 + 3.92))


def test_icc_by_hand():
    # (1, 2), (3, 4), (5, 6): targets 1.5, 3.5, 5.5 about 3.5: SS 2 * 8 = 16, MS 8; raters 3, 4: SS 3 * 0.5 = 1.5;
    # total 17.5, so no error. ICC = 8 / (8 + 2 * 1.5 / 3) = 8 / 9.
    assert icc_2_1(np.array([[1, 2], [3, 4], [5, 6]]))[0] == pytest.approx(8 / 9)


def test_perfect_agreement_and_none_to_speak_of():
    perfect = agreement(np.array([3, 8, 20]), np.array([3, 8, 20]))
    assert [perfect[k][0] for k in ("bias", "lower", "upper", "icc")] == [0, 0, 0, 1]
    one = agreement(np.array([3]), np.array([5]))
    assert one["bias"][0] == 2
    assert all(math.isnan(one[k][0]) for k in ("lower", "upper", "icc"))
    assert math.isnan(agreement(np.array([4, 4]), np.array([4, 4]))["icc"][0])


counts = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 3)), min_size=2, max_size=8)


@given(counts)
def test_a_weight_is_so_many_copies(rows):
    true, found, copies = np.array(rows).T
    weighted = agreement(true, found, copies[None].astype(float))
    copied = agreement(np.repeat(true, copies), np.repeat(found, copies))
    for name, value in weighted.items():
        np.testing.assert_allclose(value, copied[name], atol=1e-9)


@given(counts)
def test_icc_is_at_most_one_and_counting_more_lowers_it(rows):
    true = np.array([row[0] for row in rows], dtype=float)
    icc = [icc_2_1(np.stack((true, true + shift), axis=1))[0] for shift in (0, 1, 5)]
    if true.std() > 0:
        assert pytest.approx(icc[0]) == 1
        assert icc[0] > icc[1] > icc[2]
