from __future__ import annotations

import pytest

from mhkd.ablation.table import Recipe
from preprocess.base.errors import UserError
from tests.mhkd.conftest import DEMO, TINY
from tools.benchmarks.controls import markdown, measure_costs


@pytest.fixture
def recipe(tile_pairs) -> Recipe:
    overrides = tuple(str(x) for key, value in TINY.items() if key != "SOLVER.MAX_ITER" for x in (key, value))
    return Recipe(DEMO, tile_pairs, teacher_iterations=4, iterations=8, scale=4, overrides=overrides)


def test_strict_is_the_unit_and_every_control_has_its_cost(recipe, teacher):
    costs = measure_costs(recipe, ["phases1234", "alone_crosskd"], teacher, 2).set_index("control")
    assert list(costs.index) == ["strict", "phases1234", "alone_crosskd"]
    assert tuple(costs.loc["strict", ["ratio", "low", "high", "cpu_ratio"]]) == (1, 1, 1, 1)
    assert (costs > 0).all(axis=None)
    assert "| strict | " in markdown(costs.reset_index())


def test_what_is_not_trained_has_no_iterations(recipe, teacher):
    with pytest.raises(UserError, match="to time: untrained, nothing"):
        measure_costs(recipe, ["strict", "untrained", "nothing"], teacher, 1)
