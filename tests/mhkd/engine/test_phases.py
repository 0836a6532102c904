from __future__ import annotations

import pytest

from mhkd.config import mhkd_cfg
from mhkd.engine.phases import phase_configs
from preprocess.errors import UserError


def test_a_phase_is_a_share_and_overrides() -> None:
    cfg = mhkd_cfg()
    cfg.SOLVER.MAX_ITER = 100
    cfg.MODEL.MHKD.PHASES = [
        {"NAME": "one", "SHARE": 3, "MODEL.MHKD.LOSS_WEIGHTS.FEATURE": 6.0},
        {"NAME": "two", "MODEL.MHKD.BFA.ENABLED": True},
    ]
    one, two = phase_configs(cfg)
    assert (one.SOLVER.MAX_ITER, two.SOLVER.MAX_ITER) == (75, 25)
    assert (one.MODEL.MHKD.LOSS_WEIGHTS.FEATURE, two.MODEL.MHKD.LOSS_WEIGHTS.FEATURE) == (6.0, 0.0)
    assert two.MODEL.MHKD.BFA.ENABLED
    assert two.SOLVER.STEPS == (18, 22)  # 0.7 and 0.9 of 25
    assert two.OUTPUT_DIR.endswith("two")


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"NAME": "a", "MODEL.NONE": 1}], "phase a: cannot set MODEL.NONE"),
        ([{"SHARE": 1}], "NAME"),
        ([{"NAME": "a"}, {"NAME": "a"}], "distinct"),
        ([{"NAME": "a"}, {"NAME": "b", "SHARE": 0}], "phase b has no iterations"),
    ],
)
def test_faulty_phases_are_named(phases: list[dict[str, object]], message: str) -> None:
    cfg = mhkd_cfg()
    cfg.MODEL.MHKD.PHASES = phases
    with pytest.raises(UserError, match=message):
        phase_configs(cfg)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_short_phases_have_no_decay_outside_them(length: int) -> None:
    cfg = mhkd_cfg()
    cfg.SOLVER.MAX_ITER = length
    (phase,) = phase_configs(cfg)
    assert all(0 < step < length for step in phase.SOLVER.STEPS)
