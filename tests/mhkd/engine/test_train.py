from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase

from mhkd.engine.checkpoint import load_detector, read_checkpoint
from mhkd.engine.train import run_training
from mhkd.engine.trainer import Trainer
from preprocess.errors import UserError

MakeCfg = Callable[..., CfgNode]


class Stop(HookBase):
    """Ctrl-C after the second iteration."""

    def after_step(self) -> None:
        if self.trainer.iter == 1:
            raise KeyboardInterrupt


@pytest.fixture
def teacher(tiny_cfg: MakeCfg) -> Path:
    return run_training(tiny_cfg("teacher"))


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)["model"]


def distil(tiny_cfg: MakeCfg, step: str, teacher: Path, start: Path, *overrides: object) -> Path:
    return run_training(
        tiny_cfg(step, "MODEL.WEIGHTS", str(start), "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher), *overrides)
    )


def test_the_steps_follow_one_another_and_leave_plain_students(tiny_cfg: MakeCfg, teacher: Path) -> None:
    before = {k: v.clone() for k, v in weights_of(teacher).items()}
    step1 = distil(tiny_cfg, "step1", teacher, teacher)
    step2 = distil(tiny_cfg, "step2", teacher, step1)
    step3 = distil(tiny_cfg, "step3", teacher, step2)

    students = [weights_of(p) for p in (step1, step2, step3)]
    assert all(not k.startswith(("teacher", "student")) for student in students for k in student)
    assert any(k.startswith("bfa.") for k in students[0])
    for earlier, later in ((before, students[0]), (students[0], students[1]), (students[1], students[2])):
        assert any(not torch.equal(earlier[k], later[k]) for k in earlier)

    # The teacher inside the distiller's last checkpoint is the teacher that went in, to the bit.
    inside = read_checkpoint(step3.parent / "semantic" / "model_final.pth")["model"]
    assert all(torch.equal(inside[f"teacher.detector.{k}"], v) for k, v in before.items())

    detector = load_detector(step3)
    assert (detector.input_mpp, detector.tile_px, detector.class_names) == (8.0, 32, ("Glomerulus",))
    image = torch.full((3, 32, 40), 200, dtype=torch.uint8)
    instances = detector.model([{"image": image}])[0]["instances"]
    assert instances.image_size == (32, 40)


@pytest.mark.parametrize("name", ["baseline_strict", "step3"])
def test_interrupted_and_resumed_is_the_same_run(
    name: str, tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distil(tiny_cfg, name, teacher, teacher, "OUTPUT_DIR", str(tmp_path / "whole"))
    build_hooks = Trainer.build_hooks
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "build_hooks", lambda self: [*build_hooks(self), Stop()])
        with pytest.raises(KeyboardInterrupt):
            distil(tiny_cfg, name, teacher, teacher, "OUTPUT_DIR", str(tmp_path / "parts"))
    assert not (tmp_path / "parts" / "detector.pth").exists()
    parts = distil(tiny_cfg, name, teacher, teacher, "OUTPUT_DIR", str(tmp_path / "parts"))
    expected, found = weights_of(whole), weights_of(parts)
    assert [k for k in expected if not torch.equal(expected[k], found[k])] == []


def test_a_finished_run_is_not_repeated_and_another_is_not_mixed_in(tiny_cfg: MakeCfg, teacher: Path) -> None:
    first = (teacher.parent / "train" / "detector.pth").stat().st_mtime_ns
    run_training(tiny_cfg("teacher"))
    assert (teacher.parent / "train" / "detector.pth").stat().st_mtime_ns == first
    with pytest.raises(UserError, match="other config"):
        run_training(tiny_cfg("teacher", "SOLVER.BASE_LR", 0.5))


def test_missing_steps_are_named_with_the_remedy(tiny_cfg: MakeCfg, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.pth.*make train-teacher"):
        distil(tiny_cfg, "step1", tmp_path / "no.pth", teacher)
    with pytest.raises(UserError, match=r"no\.pth.*previous step"):
        distil(tiny_cfg, "step2", teacher, tmp_path / "no.pth")
    with pytest.raises(UserError, match=r"TEACHER\.WEIGHTS is empty"):
        run_training(tiny_cfg("step1"))


def test_divergence_is_one_clear_error(tiny_cfg: MakeCfg) -> None:
    with pytest.raises(UserError, match=r"diverged.*BASE_LR"):
        run_training(tiny_cfg("teacher", "SOLVER.BASE_LR", 1e12, "SOLVER.CLIP_GRADIENTS.ENABLED", False))


def test_a_damaged_tile_is_named(tiny_cfg: MakeCfg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imread", lambda *_: None)
    with pytest.raises(UserError, match=r"teacher_.*missing or damaged"):
        run_training(tiny_cfg("teacher"))
