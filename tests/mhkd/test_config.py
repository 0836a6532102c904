from __future__ import annotations

import re
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from mhkd.engine.phases import phase_configs

from mhkd.config import mhkd_cfg, read_config
from preprocess.base.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in (REPOSITORY / "configs").glob("*/[!B]*.yaml") if path.name != "tiles.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_shipped_config_reads_and_has_phases(path: Path) -> None:
    cfg = read_config(path)
    assert sum(phase.SOLVER.MAX_ITER for phase in phase_configs(cfg)) == cfg.SOLVER.MAX_ITER


def test_steps_and_baselines_have_equal_iterations() -> None:
    for folder in ("demo", "native", "resnet50", "retinanet", "fcos"):
        iterations = {p.stem: read_config(p).SOLVER.MAX_ITER for p in CONFIGS if p.parent.name == folder}
        steps = sum(count for name, count in iterations.items() if name.startswith("step"))
        assert iterations["baseline_strict"] == steps
        assert iterations["baseline_independent"] == steps + iterations["teacher"]


@pytest.mark.parametrize("folder", ["demo", "native", "retinanet", "fcos"])
def test_the_demo_steps_share_the_schedule_of_the_strict_baseline(folder: str) -> None:
    """Equal iterations are not enough: with a decay in every phase the steps would train less than their control."""

    def rates(name: str) -> list[float]:
        rates = []
        for phase in phase_configs(read_config(REPOSITORY / "configs" / folder / f"{name}.yaml")):
            solver = phase.SOLVER
            decays = [sum(step <= i for step in solver.STEPS) for i in range(solver.MAX_ITER)]
            rates += [solver.BASE_LR * solver.GAMMA**decay for decay in decays]
        return rates

    steps = sorted(path.stem for path in CONFIGS if path.parent.name == folder and path.stem.startswith("step"))
    assert [rate for step in steps for rate in rates(step)] == pytest.approx(rates("baseline_strict"))


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
