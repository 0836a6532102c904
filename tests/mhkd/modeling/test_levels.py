from __future__ import annotations

from types import SimpleNamespace

import pytest

from mhkd.config import mhkd_cfg
from mhkd.modeling.levels import build_pyramid_loss, level_shift, pair_levels
from preprocess.errors import UserError

PYRAMID = {f"p{i}": SimpleNamespace(channels=8, stride=2**i) for i in range(2, 7)}


@pytest.mark.parametrize(("ratio", "shift"), [(1, 0), (2, 1), (4, 2), (8, 3)])
def test_a_factor_of_two_is_one_level(ratio: int, shift: int) -> None:
    assert level_shift(ratio) == shift
    pairs = pair_levels(["p2", "p3", "p4", "p5"], PYRAMID, PYRAMID, ratio)
    assert pairs == {f"p{i}": f"p{i + shift}" for i in range(2, 7 - shift) if i <= 5}


@pytest.mark.parametrize("ratio", [0, 3, 6])
def test_other_factors_are_refused(ratio: int) -> None:
    with pytest.raises(UserError, match=f"factor of {ratio}"):
        level_shift(ratio)


def test_levels_can_weigh_differently_or_be_left_out() -> None:
    settings = mhkd_cfg().MODEL.MHKD
    settings.FEATURE_LEVEL_WEIGHTS = [0.5, 0.0, 1.0, 2.0]
    loss = build_pyramid_loss(settings, PYRAMID, PYRAMID, 1)
    assert loss.weights == {"p2": 0.5, "p4": 1.0, "p5": 2.0}
