from __future__ import annotations

import pytest

from mhkd.config import mhkd_cfg
from mhkd.engine.phases import phase_configs
from preprocess.base.errors import UserError


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


def test_phases_of_one_schedule_have_its_decays_between_them() -> None:
    cfg = mhkd_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.SCHEDULE_LENGTH = 1.0, 300, 300
    cfg.MODEL.MHKD.PHASES = [{"NAME": name} for name in "abcd"]
    phases = phase_configs(cfg)  # decays at 210 and 270, warm-up of 30
    assert [phase.SOLVER.STEPS for phase in phases] == [(), (), (60,), (45,)]
    assert [phase.SOLVER.BASE_LR for phase in phases] == pytest.approx([1.0, 1.0, 1.0, 0.1])
    assert [phase.SOLVER.WARMUP_ITERS for phase in phases] == [30, 0, 0, 0]


def test_a_step_is_a_part_of_a_longer_schedule() -> None:
    cfg = mhkd_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER = 1.0, 60
    cfg.SOLVER.SCHEDULE_LENGTH, cfg.SOLVER.SCHEDULE_START = 300, 210
    (phase,) = phase_configs(cfg)
    assert (pytest.approx(0.1), ()) == (phase.SOLVER.BASE_LR, phase.SOLVER.STEPS)  # the decay at 210 is where it begins
    cfg.SOLVER.MAX_ITER = 91
    with pytest.raises(UserError, match="210 to 301 of a schedule of 300"):
        phase_configs(cfg)
