from __future__ import annotations

import json

import pytest

from mhkd.config import read_config
from mhkd.engine.train import run_training
from preprocess.base.errors import UserError
from tests.mhkd.engine.runs import MakeCfg


def test_a_finished_run_is_not_repeated_and_another_is_not_mixed_in(tiny_cfg: MakeCfg) -> None:
    teacher = run_training(tiny_cfg("teacher", "SOLVER.MAX_ITER", 1))
    first = teacher.stat().st_mtime_ns
    run_training(tiny_cfg("teacher", "SOLVER.MAX_ITER", 1))
    assert teacher.stat().st_mtime_ns == first
    with pytest.raises(
        UserError, match=r"holds a run with SOLVER\.BASE_LR 0\.001 \(now 0\.5\), SOLVER\.MAX_ITER 1 \(now 4\)"
    ):
        run_training(tiny_cfg("teacher", "SOLVER.BASE_LR", 0.5))
    other = (
        "float32" if json.loads((teacher.parent / "run.json").read_text())["precision"] == "bfloat16" else "bfloat16"
    )
    with pytest.raises(UserError, match=r"MODEL\.MHKD\.PRECISION auto \(now \w+\), precision \w+ \(now \w+\)"):
        run_training(tiny_cfg("teacher", "SOLVER.MAX_ITER", 1, "MODEL.MHKD.PRECISION", other))


def test_a_run_leaves_what_detectron2_leaves(tiny_cfg: MakeCfg) -> None:
    folder = run_training(tiny_cfg("teacher", "SOLVER.MAX_ITER", 1)).parent
    assert read_config(folder / "config.yaml").SOLVER.BASE_LR == 0.001
    assert "Starting training from iteration 0" in (folder / "log.txt").read_text()
    record = json.loads((folder / "run.json").read_text())
    assert (record["num_processes"], record["precision"] in {"float32", "bfloat16"}) == (1, True)
