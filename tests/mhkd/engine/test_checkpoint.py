from __future__ import annotations

import collections
import pickle
import re
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from mhkd.deploy.detector_file import load_detector
from mhkd.engine.checkpoint import TAG_FILE, load_initial_weights
from mhkd.engine.train import run_training
from mhkd.weights import load_strictly, read_checkpoint, write_checkpoint
from preprocess.base.errors import UserError
from tests.mhkd.engine.runs import MakeCfg, assert_same, distil, weights_of


class Exploit:
    """What a malicious weights file does."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.target,)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pth"])
def test_code_in_a_weights_file_is_not_run(tmp_path: Path, name: str) -> None:
    target = tmp_path / "ran"
    content = {"model": Exploit(target)}
    if name.endswith("pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / name)
    assert not target.exists()


def test_a_model_zoo_pickle_of_arrays_is_read(tmp_path: Path) -> None:
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": collections.OrderedDict(a=np.arange(3.0)), "__author__": "zoo"}))
    assert read_checkpoint(path)["model"]["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"text\n", b"PK\x03\x04 damaged"])
def test_damaged_and_missing_files_are_user_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth"
    with pytest.raises(UserError, match=r"x\.pth: checkpoint not found"):
        read_checkpoint(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pth"):
        read_checkpoint(path)


def test_the_bytes_of_a_checkpoint_do_not_depend_on_its_name(tmp_path: Path) -> None:
    for name in ("a.pth", "another.pth"):
        write_checkpoint(tmp_path / name, {"model": {"weight": torch.arange(3.0)}})
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "another.pth").read_bytes()


def test_a_disk_that_takes_no_more_is_an_error_of_the_system_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_checkpoint(tmp_path / "x.pth", {"model": {"weight": torch.zeros(2**20)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_training_checkpoint_is_no_detector(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "model_final.pth")
    with pytest.raises(UserError, match=r"not an exported detector .*detector\.pth"):
        load_detector(tmp_path / "model_final.pth")


def test_wrong_weights_are_refused_with_the_key_names() -> None:
    model = nn.Linear(2, 3)
    good = model.state_dict()
    for weights, message in (
        ({"weight": good["weight"]}, "lacks bias"),
        ({**good, "module.bias": good["bias"]}, r"unknown module\.bias"),
        ({**good, "bias": torch.zeros(4)}, r"bias \(4,\) not \(3,\)"),
    ):
        with pytest.raises(UserError, match=message):
            load_strictly(model, weights, "w.pth")
    load_strictly(model, {"weight": good["weight"]}, "w.pth", may_be_missing=("bias",))


STAGES = ["res3", "res4", "res5"]
RESNET = (
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    *("MODEL.RESNETS.OUT_FEATURES", STAGES, "MODEL.FPN.IN_FEATURES", STAGES, "MODEL.RESNETS.DEPTH"),
)
PREFIX = "backbone.bottom_up."


def zoo_file(path: Path, detector: nn.Module, **changes: np.ndarray | None) -> Path:
    """The backbone of ``detector`` as Detectron2's model zoo has them: arrays by short names, and a classifier."""
    weights = {k.removeprefix(PREFIX): v.numpy() for k, v in detector.state_dict().items() if k.startswith(PREFIX)}
    weights |= {
        "stem.fc.weight": np.zeros((10, 512), np.float32),
        **{k.replace("__", "."): v for k, v in changes.items()},
    }
    content = {"model": {k: v for k, v in weights.items() if v is not None}, "__author__": "torchvision"}
    path.write_bytes(pickle.dumps({**content, "matching_heuristics": True}))
    return path


def test_training_starts_from_a_backbone_of_the_model_zoo(tiny_cfg: Callable[..., CfgNode], tmp_path: Path) -> None:
    source = build_model(tiny_cfg("teacher", *RESNET, 18))
    path = zoo_file(tmp_path / "R-18.pkl", source)
    found = build_model(tiny_cfg("teacher", *RESNET, 18))
    load_initial_weights(found, str(path))
    expected = {k: v for k, v in source.state_dict().items() if k.startswith(PREFIX)}
    assert len(expected) > 50
    assert all(torch.equal(found.state_dict()[k], v) for k, v in expected.items())
    # Stages up to res2 are frozen: they are the file's after training, too.
    trained = run_training(tiny_cfg("teacher", *RESNET, 18, "MODEL.WEIGHTS", str(path), "SOLVER.MAX_ITER", 1))
    key = f"{PREFIX}res2.0.conv1.weight"
    assert torch.equal(read_checkpoint(trained)["model"][key], expected[key])


def test_a_backbone_that_does_not_fit_is_refused_with_the_key_names(
    tiny_cfg: Callable[..., CfgNode], tmp_path: Path
) -> None:
    small, large = (build_model(tiny_cfg("teacher", *RESNET, depth)) for depth in (18, 34))
    path = tmp_path / "backbone.pkl"
    with pytest.raises(
        UserError, match=r"backbone\.pkl: the backbone weights lack backbone\.bottom_up\.res2\.2\.conv1"
    ):
        load_initial_weights(large, str(zoo_file(path, small)))
    with pytest.raises(UserError, match=r"have unknown res2\.2\.conv1.* and \d+ more .*MODEL\.RESNETS"):
        load_initial_weights(small, str(zoo_file(path, large)))
    with pytest.raises(UserError, match=r"lack backbone\.bottom_up\.res4\.1\.conv2\.weight \("):
        load_initial_weights(small, str(zoo_file(path, small, res4__1__conv2__weight=None)))
    with pytest.raises(UserError, match=r"lack backbone\.bottom_up\.res5\.0\.conv1\.weight \("):
        load_initial_weights(
            small, str(zoo_file(path, small, res5__0__conv1__weight=np.zeros((4, 4, 3, 3), np.float32)))
        )


@pytest.mark.parametrize("tag", ["", "model_0000009.pth"], ids=["empty", "of a file that is gone"])
def test_a_tag_that_leads_nowhere_does_not_end_a_run(
    tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path, tag: str
) -> None:
    where = ("OUTPUT_DIR", str(tmp_path / "run"))
    distil(tiny_cfg, teacher, *where, until_step=1)
    (tmp_path / "run" / TAG_FILE).write_text(tag)
    (tmp_path / "run" / "model_0000000.pth").write_bytes(b"half a checkpoint")
    found = distil(tiny_cfg, teacher, *where)
    assert_same(weights_of(distil(tiny_cfg, teacher, "OUTPUT_DIR", str(tmp_path / "whole"))), weights_of(found))


def test_a_checkpoint_of_another_model_is_refused(tiny_cfg: MakeCfg, teacher: Path) -> None:
    step1 = distil(tiny_cfg, teacher, until_step=1)
    path = step1.parents[1] / "model_final.pth"
    content = read_checkpoint(path)
    removed = next(iter(content["model"]))
    del content["model"][removed]
    write_checkpoint(path, content)
    with pytest.raises(UserError, match=f"does not fit the model: {re.escape(removed)}"):
        distil(tiny_cfg, teacher)
