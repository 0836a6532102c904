from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mhkd.engine.launch import cause_of, launch_training
from preprocess.base.errors import UserError
from tests.mhkd.conftest import TINY
from tests.mhkd.engine.runs import MakeCfg, assert_same, weights_of

REPOSITORY = Path(__file__).resolve().parents[3]


def test_two_processes_give_the_result_of_one(tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path) -> None:
    """Within 1e-3 of the way that the weights went, where every loss divides evenly.

    For that every anchor and a fixed number of RoIs an image take part, and the losses are means over images,
    anchors or RoIs. SGD, as Adam turns the sign of a gradient that is all rounding into a full step.
    """
    overrides = (
        *("SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 2, "SOLVER.OPTIMIZER", "sgd", "SOLVER.BASE_LR", 0.01),
        *("SOLVER.CLIP_GRADIENTS.ENABLED", False, "MODEL.MHKD.PRECISION", "float32", "MODEL.MHKD.EMA_DECAY", 0.9),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 1000, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 8),
        *("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", False, "MODEL.MHKD.FEATURE_LOSS", "mse"),
    )
    phases = [
        {"NAME": "first", "LOSSES": ["FEATURE"]},
        {"NAME": "second", "LOSSES": ["FEATURE", "SEMANTIC_CLS"], "MODEL.MHKD.BFA.ENABLED": True},
    ]
    found = []
    for count in (1, 2):
        where = ("OUTPUT_DIR", str(tmp_path / f"processes{count}"), "MODEL.MHKD.PHASES", phases)
        weights = ("MODEL.WEIGHTS", str(teacher), "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher))
        found.append(weights_of(launch_training(tiny_cfg("distill", *overrides, *weights, *where), count)))
    one, two = found
    start = {**one, **weights_of(teacher)}  # a new BFA begins at its own random weights
    way = torch.cat([(one[k] - start[k]).flatten() for k in one]).norm()
    apart = torch.cat([(one[k] - two[k]).flatten() for k in one]).norm()
    assert way > 0
    assert apart / way < 1e-3


@pytest.mark.parametrize(
    ("processes", "overrides", "message"),
    [
        ({"num_gpus": 3}, (), "IMS_PER_BATCH 2 does not divide among 3"),
        ({"num_machines": 2}, (), r"several machines.*--dist-url tcp://HOST:PORT"),
        (
            {"num_gpus": 2},
            ("MODEL.DEVICE", "cuda:1"),
            r"cannot share the device cuda:1.*CUDA_VISIBLE_DEVICES",
        ),
        ({"num_gpus": 2}, ("MODEL.DEVICE", "cuda"), r"2 processes want a GPU each, and there are [01]"),
    ],
)
def test_processes_that_cannot_train_together_are_refused(
    tiny_cfg: MakeCfg, processes: dict[str, int], overrides: tuple[object, ...], message: str
) -> None:
    if torch.cuda.device_count() > 1 and "cuda" in overrides:
        pytest.skip("there are GPUs for both")
    with pytest.raises(UserError, match=message):
        launch_training(tiny_cfg("teacher", *overrides), **processes)


def test_two_machines_give_the_result_of_two_processes(teacher: Path, tile_pairs: Path, tmp_path: Path) -> None:
    """Over gloo on this host, by the command line: the same weights to the bit."""
    settings = [str(x) for item in TINY.items() if item[0] != "MODEL.DEVICE" for x in item]

    def start(folder: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "tools/train.py", "--config-file", "configs/demo/distill.yaml", "--device", "cpu"]
        command += ["--tiles", str(tile_pairs), "--output-dir", str(tmp_path / folder)]
        command += ["--teacher", str(teacher), "--init", str(teacher), *options]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*command, *settings], cwd=REPOSITORY, env=environment)

    assert start("processes", "--num-gpus", "2").wait(timeout=300) == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    machines = [
        start("machines", "--num-machines", "2", "--machine-rank", str(rank), "--dist-url", url) for rank in (0, 1)
    ]
    assert [machine.wait(timeout=300) for machine in machines] == [0, 0]
    expected, found = (weights_of(tmp_path / name / "detector.pth") for name in ("processes", "machines"))
    assert_same(expected, found)
    record = json.loads((tmp_path / "machines" / "run.json").read_text())
    assert record["num_processes"] == 2
    assert (tmp_path / "machines" / "log.txt.rank1").is_file()


def test_a_native_student_trains_in_two_processes_of_which_one_sees_no_object(
    tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path
) -> None:
    """MGD's generator has a gradient of zero there: without any, the other process would wait for it for ever."""
    overrides = ("MODEL.MHKD.FEATURE_LOSS", "mgd", "MODEL.MHKD.FEATURE_FOREGROUND", True, "MODEL.MHKD.INIT", "none")
    given = ("MODEL.MHKD.TEACHER.WEIGHTS", str(teacher), "OUTPUT_DIR", str(tmp_path / "native"), "SOLVER.MAX_ITER", 8)
    assert launch_training(tiny_cfg("native/distill", *overrides, *given), 2).is_file()


@pytest.mark.parametrize(
    ("traceback", "cause"),
    [
        (
            "Traceback:\n  File x\npreprocess.base.errors.UserError: t.pth: not found (look)\n",
            "t.pth: not found (look)",
        ),
        (
            "Traceback:\nRuntimeError: Expected a gradient.\nYou can pass `x=True`.\nParameter 3\n",
            "RuntimeError: Expected a gradient.",
        ),
        ("KeyError: 'a'\n\nDuring handling:\n\nValueError: no number\n", "ValueError: no number"),
        ("process 1 terminated with signal SIGKILL", "process 1 terminated with signal SIGKILL"),
    ],
)
def test_the_cause_of_a_failed_process_is_named_rather_than_a_hint(traceback: str, cause: str) -> None:
    assert cause_of(traceback) == cause
