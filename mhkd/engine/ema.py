"""An exponential moving average of the student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.engine import HookBase
from timm.utils import ModelEmaV3
from torch import nn


class EMA(HookBase):
    """Keeps the average (timm's), whose decay grows from 0 to ``decay`` with the iteration.

    The iteration is the trainer's, and the average is part of the checkpoint, so that a resumed run is the same run.
    ``average`` is a detector like the one that is trained, in evaluation mode; frozen weights and buffers are those
    of the original to the bit, as lerp(x, x) is x.
    """

    def __init__(self, detector: Callable[[], nn.Module], decay: float) -> None:
        """
        Args:
            detector: gives the trained detector, without a wrapper.
            decay: its final value, below 1.
        """
        self.detector = detector
        self.state = ModelEmaV3(detector(), decay=decay, use_warmup=True)
        self.state.requires_grad_(False)

    @property
    def average(self) -> Any:
        return self.state.module

    def after_step(self) -> None:
        self.state.update(self.detector(), step=self.trainer.iter + 1)
