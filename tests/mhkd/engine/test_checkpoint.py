from __future__ import annotations

import collections
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mhkd.models.checkpoint import load_detector, load_strictly, read_checkpoint
from preprocess.errors import UserError


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
