"""Runs of the demo's configurations, small enough for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase

from mhkd.engine.train import run_training
from mhkd.weights import read_checkpoint

MakeCfg = Callable[..., CfgNode]


class Stop(HookBase):
    """Ctrl-C at the end of each iteration, once; ``stops`` are those of all attempts."""

    stops: ClassVar[list[int]] = []

    def after_step(self) -> None:
        if self.trainer.iter not in self.stops:
            self.stops.append(self.trainer.iter)
            raise KeyboardInterrupt


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)["model"]


PHASES = {
    "basic": {"LOSSES": ["FEATURE"]},
    "local": {"LOSSES": ["LOCAL"], "MODEL.MHKD.BFA.ENABLED": True},
    "semantic": {"LOSSES": ["LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX"], "MODEL.MHKD.BFA.ENABLED": True},
}


def only(name: str, **more: object) -> tuple[str, list[dict[str, object]]]:
    """Overrides for a run of the one phase ``name``."""
    return "MODEL.MHKD.PHASES", [{"NAME": name, **PHASES[name], **more}]


def distil(
    tiny_cfg: MakeCfg, teacher: Path, *overrides: object, start: Path | None = None, until_step: int | None = None
) -> Path:
    """The demo's distillation, of an iteration a phase."""
    weights = ("MODEL.WEIGHTS", str(start or teacher), "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher))
    return run_training(tiny_cfg("distill", *weights, *overrides), until_step)


def checkpoint_of(detector: Path) -> dict[str, Any]:
    """The last checkpoint of the run that ended with ``detector``."""
    return read_checkpoint(detector.parent / "model_final.pth")


def assert_same(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    assert expected.keys() == found.keys()
    assert [k for k in expected if not torch.equal(expected[k], found[k])] == []
