from __future__ import annotations

import re
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

from mhkd.config import mhkd_cfg, read_config
from mhkd.engine.run_config import check_unread_keys
from mhkd.phases import PhaseSchedule
from preprocess.base.errors import UserError

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


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UserError, match=r"MODEL.MHKD.UPSAMPEL"):
        read_config(CONFIGS[0], ["MODEL.MHKD.UPSAMPEL", "2"])


def test_a_wrong_type_and_a_missing_file_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"SOLVER\.MAX_ITER"):
        read_config(CONFIGS[0], ["SOLVER.MAX_ITER", "many"])
    with pytest.raises(UserError, match="not found"):
        read_config(tmp_path / "none.yaml")


def test_every_key_is_read_somewhere() -> None:
    def leaves(node: CfgNode, prefix: str) -> set[str]:
        found: set[str] = set()
        for key, value in node.items():
            found |= leaves(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else {f"{prefix}{key}"}
        return found

    code = "\n".join(p.read_text() for p in (REPOSITORY / "mhkd").rglob("*.py") if p.name != "config.py")
    for key in leaves(mhkd_cfg(), "") - leaves(get_cfg(), ""):
        if ".LOSS_WEIGHTS." in key:
            assert f'"{key.rpartition(".")[2].lower()}"' in code, key
        else:
            assert re.search(rf"\b{key.rpartition('.')[2]}\b", code), key
