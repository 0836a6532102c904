from __future__ import annotations

import pytest
from detectron2.config import CfgNode

from mhkd.config import mhkd_cfg
from mhkd.phases import PhaseSchedule
from preprocess.base.errors import UserError

WEIGHT = "MODEL.MHKD.LOSS_WEIGHTS."


def config(phases: list[dict[str, object]], iterations: int = 100, warmup: float = 0.1) -> CfgNode:
    cfg = mhkd_cfg()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_SHARE = iterations, warmup
    cfg.MODEL.MHKD.PHASES = phases
    return cfg


def test_a_phase_is_a_share_and_overrides() -> None:
    one = {"NAME": "one", "STEP": 1, "SHARE": 3, f"{WEIGHT}FEATURE": 6.0}
    two = {"NAME": "two", "STEP": 2, "MODEL.MHKD.BFA.ENABLED": True, "MODEL.MHKD.FROZEN": ["backbone."]}
    schedule = PhaseSchedule.from_config(config([one, two]))
    first, second = schedule.phases
    assert [(p.name, p.start, p.stop, p.warmup_iters) for p in schedule.phases] == [
        ("one", 0, 75, 8),
        ("two", 75, 100, 2),
    ]
    assert (first.weights["feature"], second.weights["feature"]) == (6.0, 0.0)
    assert (first.bfa, second.bfa, second.frozen) == (False, True, ("backbone.",))
    assert schedule.has_bfa
    assert schedule.weights["feature"] == 6.0
    assert [schedule.at(i).name for i in (0, 74, 75, 99, 100)] == ["one", "one", "two", "two", "two"]


def test_the_losses_of_a_phase_are_chosen_from_those_of_the_run() -> None:
    cfg = config([{"NAME": "a", "LOSSES": ["FEATURE"]}, {"NAME": "b", "LOSSES": ["LOCAL", "FEATURE"]}, {"NAME": "c"}])
    cfg.MODEL.MHKD.LOSS_WEIGHTS.FEATURE, cfg.MODEL.MHKD.LOSS_WEIGHTS.LOCAL = 6.0, 1.0
    found = [(phase.weights["feature"], phase.weights["local"]) for phase in PhaseSchedule.from_config(cfg).phases]
    assert found == [(6.0, 0.0), (6.0, 1.0), (6.0, 1.0)]


def test_a_step_ends_with_its_last_phase() -> None:
    phases = [{"NAME": "a", "STEP": 1}, {"NAME": "b", "STEP": 1}, {"NAME": "c", "STEP": 3}]
    assert {step: phase.name for step, phase in PhaseSchedule.from_config(config(phases)).steps.items()} == {
        1: "b",
        3: "c",
    }


def test_a_loss_ramps_up_once_over_the_warm_up_of_the_phase_that_it_begins_in() -> None:
    """Four phases of 10 iterations and a warm-up of 3: a loss begins at a quarter, a phase border does not stop it."""
    phases = [
        {"NAME": "a", f"{WEIGHT}FEATURE": 2.0},
        {"NAME": "b", f"{WEIGHT}FEATURE": 2.0},
        {"NAME": "c", f"{WEIGHT}LOCAL": 1.0},
        {"NAME": "d", f"{WEIGHT}LOCAL": 1.0, f"{WEIGHT}FEATURE": 2.0},
    ]
    schedule = PhaseSchedule.from_config(config(phases, 40, 0.3))
    features = {i: schedule.weights_at(i)["feature"] for i in (0, 1, 3, 9, 10, 19, 20, 29, 30, 33)}
    assert features == {0: 0.5, 1: 1.0, 3: 2.0, 9: 2.0, 10: 2.0, 19: 2.0, 20: 0.0, 29: 0.0, 30: 0.5, 33: 2.0}
    assert [schedule.weights_at(i)["local"] for i in (19, 20, 22, 30)] == [0.0, 0.25, 0.75, 1.0]


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"NAME": "a", "MODEL.NONE": 1}], "phase a: MODEL.NONE cannot change within a run"),
        ([{"NAME": "a", "SOLVER.BASE_LR": 1.0}], "phase a: SOLVER.BASE_LR cannot change within a run"),
        ([{"NAME": "a", f"{WEIGHT}NONE": 1.0}], f"phase a: cannot set {WEIGHT}NONE"),
        ([{"NAME": "a", "LOSSES": ["FEATURES"]}], "phase a: no loss is called FEATURES.*FEATURE, LOCAL"),
        ([{"SHARE": 1}], "NAME"),
        ([{"NAME": "a"}, {"NAME": "a"}], "distinct"),
        ([{"NAME": "a"}, {"NAME": "b", "SHARE": 0}], "phase b has no iterations"),
        ([{"NAME": "a", "STEP": 2}, {"NAME": "b", "STEP": 1}], "in order of STEP"),
    ],
)
def test_faulty_phases_are_named(phases: list[dict[str, object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PhaseSchedule.from_config(config(phases))
