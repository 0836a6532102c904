from __future__ import annotations

import numpy as np
import pytest

from mhkd.evaluation import bootstrap
from mhkd.evaluation.bootstrap import draw_weights, interval, resample


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

    def statistics(part):
        sizes.append(len(part))
        return {"sum": part @ np.arange(3.0)}

    whole = resample(statistics, weights, 10)
    monkeypatch.setattr(bootstrap, "_CELLS", 100)
    np.testing.assert_array_equal(resample(statistics, weights, 10)["sum"], whole["sum"])
    assert sizes[0] == 50
    assert max(sizes[1:]) <= 10


def test_a_figure_that_mostly_has_no_meaning_has_no_interval():
    nan = float("nan")
    assert interval(np.array([nan, nan, nan, 1.0])) is None
    assert interval(np.array([nan, 1.0, 1.0])) == [1, 1]
    assert interval(np.empty(0)) is None
