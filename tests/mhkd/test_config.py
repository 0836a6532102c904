from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

from mhkd.config import PhaseSchedule, mhkd_cfg, read_config
from mhkd.engine.run_config import check_unread_keys, leaves
from preprocess.base.errors import UserError
from preprocess.tiles.options import read_options

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in (REPOSITORY / "configs").glob("*/[!B]*.yaml") if path.name != "tiles.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_shipped_config_reads_and_has_phases(path: Path) -> None:
    cfg = read_config(path)
    phases = PhaseSchedule.from_config(cfg).phases
    assert [phase.start for phase in phases] == [0, *(phase.stop for phase in phases[:-1])]
    assert phases[-1].stop == cfg.SOLVER.MAX_ITER
    check_unread_keys(cfg)


@pytest.mark.parametrize("folder", ["demo", "native", "resnet50", "retinanet", "fcos"])
def test_distillation_and_its_controls_have_equal_iterations_and_the_same_schedule(folder: str) -> None:
    teacher, distilled, strict, independent = (
        read_config(REPOSITORY / "configs" / folder / f"{name}.yaml").SOLVER
        for name in ("teacher", "distill", "baseline_strict", "baseline_independent")
    )
    assert distilled == strict
    assert independent.MAX_ITER == strict.MAX_ITER + teacher.MAX_ITER


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("demo", {1: {"feature"}, 2: {"local"}, 3: {"local", "semantic_cls", "semantic_box"}}),
        ("retinanet", {1: {"feature"}, 3: {"semantic_cls", "semantic_box"}}),
        ("fcos", {1: {"feature"}, 3: {"semantic_cls", "semantic_box", "semantic_centerness"}}),
    ],
)
def test_the_steps_end_with_the_losses_of_the_method(folder: str, expected: dict[int, set[str]]) -> None:
    steps = PhaseSchedule.from_config(read_config(REPOSITORY / "configs" / folder / "distill.yaml")).steps
    assert {step: {name for name, w in phase.weights.items() if w} for step, phase in steps.items()} == expected
    assert all(phase.bfa for phase in steps.values())


def test_a_copied_folder_reads_the_same_wherever_it_lies(tmp_path: Path) -> None:
    copy = tmp_path / "my configs" / "mine"
    shutil.copytree(REPOSITORY / "configs" / "fcos", copy)
    for name in ("teacher", "distill"):
        assert read_config(copy / f"{name}.yaml") == read_config(REPOSITORY / "configs" / "fcos" / f"{name}.yaml")
    assert read_options(copy / "tiles.yaml").keys() == read_options(REPOSITORY / "configs/fcos/tiles.yaml").keys()


@pytest.mark.parametrize("text", ["", "- a", "a: [", "!!python/object/apply:os.getcwd []", "MODEL: 3"])
def test_a_file_that_is_no_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"cannot apply the configuration: [^\n]+$"):
        read_config(tmp_path / "mine.yaml")


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UserError, match=r"MODEL.MHKD.UPSAMPEL"):
        read_config(CONFIGS[0], ["MODEL.MHKD.UPSAMPEL", "2"])


def test_a_wrong_type_and_a_missing_file_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"SOLVER\.MAX_ITER"):
        read_config(CONFIGS[0], ["SOLVER.MAX_ITER", "many"])
    with pytest.raises(UserError, match="not found"):
        read_config(tmp_path / "none.yaml")


def test_every_key_is_read_somewhere() -> None:
    files = [p for p in (REPOSITORY / "mhkd").rglob("*.py") if p.name != "config.py"]
    phases = (REPOSITORY / "mhkd" / "config.py").read_text().partition("\nPHASE_KEYS")[2]
    code = "\n".join([phases, *(p.read_text() for p in files)])
    for key in dict(leaves(mhkd_cfg())).keys() - dict(leaves(get_cfg())).keys():
        if ".LOSS_WEIGHTS." in key:
            assert f'"{key.rpartition(".")[2].lower()}"' in code, key
        else:
            assert re.search(rf"\b{key.rpartition('.')[2]}\b", code), key


WEIGHT = "MODEL.MHKD.LOSS_WEIGHTS."


def run_of(phases: list[dict[str, object]], iterations: int = 100, warmup: float = 0.1) -> CfgNode:
    cfg = mhkd_cfg()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_SHARE = iterations, warmup
    cfg.MODEL.MHKD.PHASES = phases
    return cfg


def test_a_phase_is_a_share_and_overrides() -> None:
    one = {"NAME": "one", "STEP": 1, "SHARE": 3, f"{WEIGHT}FEATURE": 6.0}
    two = {"NAME": "two", "STEP": 2, "MODEL.MHKD.BFA.ENABLED": True, "MODEL.MHKD.FROZEN": ["backbone."]}
    schedule = PhaseSchedule.from_config(run_of([one, two]))
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
    cfg = run_of([{"NAME": "a", "LOSSES": ["FEATURE"]}, {"NAME": "b", "LOSSES": ["LOCAL", "FEATURE"]}, {"NAME": "c"}])
    cfg.MODEL.MHKD.LOSS_WEIGHTS.FEATURE, cfg.MODEL.MHKD.LOSS_WEIGHTS.LOCAL = 6.0, 1.0
    found = [(phase.weights["feature"], phase.weights["local"]) for phase in PhaseSchedule.from_config(cfg).phases]
    assert found == [(6.0, 0.0), (6.0, 1.0), (6.0, 1.0)]


def test_a_step_ends_with_its_last_phase() -> None:
    phases = [{"NAME": "a", "STEP": 1}, {"NAME": "b", "STEP": 1}, {"NAME": "c", "STEP": 3}]
    assert {step: phase.name for step, phase in PhaseSchedule.from_config(run_of(phases)).steps.items()} == {
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
    schedule = PhaseSchedule.from_config(run_of(phases, 40, 0.3))
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
        PhaseSchedule.from_config(run_of(phases))
