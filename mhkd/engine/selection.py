"""The best student on the validation tiles, kept while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from torch import nn

from mhkd.engine.checkpoint import BEST_FILE
from mhkd.weights import read_checkpoint, write_checkpoint


class BestOnValidation(HookBase):
    """Scores the detector every ``period`` iterations and after those in ``ends``, and keeps the best weights on disk.

    What it knows it reads from its file, never from an earlier iteration's memory; scores of iterations that a
    resumed run will reach again are found again.
    """

    def __init__(
        self,
        detector: Callable[[], nn.Module],
        score: Callable[[nn.Module], float | None],
        folder: str,
        period: int,
        ends: Collection[int],
    ) -> None:
        """
        Args:
            detector: gives the detector to score and keep.
            score: its AP in percent, None where there is nothing to find.
            ends: numbers of iterations after which it is scored as well: those where a phase ends.
        """
        self.detector = detector
        self.score = score
        self.path = Path(folder) / BEST_FILE
        self.period = period
        self.ends = ends
        self.best = float("-inf")

    def before_train(self) -> None:
        if self.path.is_file():
            kept: dict[str, Any] = read_checkpoint(self.path)
            self.best = kept["AP"] if kept["iteration"] <= self.trainer.start_iter else float("-inf")

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period and done not in self.ends:
            return
        detector = self.detector()
        was_training = detector.training
        found = self.score(detector.eval())
        detector.train(was_training)
        found = float("-inf") if found is None else found
        self.trainer.storage.put_scalar("val/AP", found)
        if found > self.best or not self.path.is_file():
            self.best = found
            write_checkpoint(self.path, {"model": detector.state_dict(), "iteration": done, "AP": found})
