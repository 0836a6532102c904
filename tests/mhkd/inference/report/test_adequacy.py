from __future__ import annotations

import pytest

from mhkd.inference.report.adequacy import rate_adequacy


@pytest.mark.parametrize(
    ("glomeruli", "verdict"),
    [(0, "inadequate"), (6, "inadequate"), (7, "marginal"), (9, "marginal"), (10, "adequate"), (500, "adequate")],
)
def test_the_thresholds_are_those_of_banff(glomeruli, verdict):
    rated = rate_adequacy(glomeruli)
    assert rated["verdict"] == verdict
    assert rated["glomeruli"] == glomeruli
    assert rated["thresholds"] == {"marginal": 7, "adequate": 10}


def test_it_says_where_it_comes_from_and_what_it_leaves_out():
    rated = rate_adequacy(8)
    assert "10.1046/j.1523-1755.1999.00299.x" in rated["source"]
    assert rated["limits"].startswith("Research use only.")
    assert "arteries" in rated["limits"]
    assert rated["meaning"].startswith("7 to 9 glomeruli")
