"""Hooks of the trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from mhkd.config import Phase, PhaseSchedule
from mhkd.data.stream import PositionSampler
from preprocess.base.console import progress

logger = logging.getLogger(__name__)

BALANCE_WINDOW = 20
"""Over how many iterations the median ratio is taken before it warns."""


class PhaseChange(HookBase):
    """Enters the phase of the iteration: where training begins or goes on, and where a phase begins."""

    def __init__(self, schedule: PhaseSchedule, enter: Callable[[Phase], None]) -> None:
        self.schedule = schedule
        self.enter = enter

    def before_train(self) -> None:
        self.enter(self.schedule.at(self.trainer.start_iter))

    def before_step(self) -> None:
        phase = self.schedule.at(self.trainer.iter)
        if self.trainer.iter == phase.start and phase.start != self.trainer.start_iter:
            self.enter(phase)


class ExportStudents(HookBase):
    """Exports at the end of each phase, before the checkpoint of its last iteration: no step is ended without."""

    def __init__(self, schedule: PhaseSchedule, export: Callable[[Phase], None]) -> None:
        self.schedule = schedule
        self.export = export

    def after_step(self) -> None:
        phase = self.schedule.at(self.trainer.iter)
        if self.trainer.iter + 1 == phase.stop:
            self.export(phase)


class ShowProgress(HookBase):
    """Shows how far the training is: one line on a terminal, else one every half a minute. Losses are in log.txt."""

    def __init__(self, name: str) -> None:
        """
        Args:
            name: what the line calls the training.
        """
        self.name = name

    def before_train(self) -> None:
        self.bar = progress(
            (),
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            description=self.name,
            unit="iteration",
            seconds=30.0,
        )

    def after_step(self) -> None:
        self.bar.update()

    def after_train(self) -> None:
        self.bar.close()


class ExactResume(HookBase):
    """Makes a resumed run the same run: data and random numbers derive from the iteration.

    Before training, the data stream is put where it would be by now; before each step, every random number
    generator is seeded from (seed, process, iteration), which covers the sampling of anchors and RoIs.
    """

    def __init__(self, sampler: PositionSampler, images_per_batch: int, seed: int) -> None:
        self.sampler = sampler
        self.images_per_batch = images_per_batch
        self.seed = seed

    def before_train(self) -> None:
        self.sampler.start = self.trainer.start_iter * self.images_per_batch

    def before_step(self) -> None:
        seed_all_rng((self.seed * 1_000_003 + self.trainer.iter * 1009 + comm.get_rank()) % 2**31)


class LossBalance(HookBase):
    """Logs each distillation loss as a share of the student's task loss, and warns of one that drowns it.

    ``kd_ratio/<name>`` stands beside ``loss_kd_<name>`` in metrics.json and TensorBoard.
    """

    def __init__(self, max_ratio: float) -> None:
        """
        Args:
            max_ratio: median of the last 20 iterations from which on it warns, once for each loss.
        """
        self.max_ratio = max_ratio
        self.warned: set[str] = set()

    def after_step(self) -> None:
        storage: EventStorage = self.trainer.storage
        now = {name: value for name, (value, at) in storage.latest().items() if at == self.trainer.iter}
        losses = {name: value for name, value in now.items() if name.startswith("loss_")}
        task = sum(v for name, v in losses.items() if not name.startswith(("loss_kd_", "loss_teacher_")))
        for name, value in losses.items():
            if not name.startswith("loss_kd_") or not task:
                continue
            key = f"kd_ratio/{name.removeprefix('loss_kd_')}"
            storage.put_scalar(key, value / task)
            ratio = storage.history(key).median(BALANCE_WINDOW)
            full = len(storage.history(key).values()) >= min(BALANCE_WINDOW, self.trainer.max_iter)
            if full and ratio > self.max_ratio and name not in self.warned:
                self.warned.add(name)
                logger.warning(
                    "%s is %.1f times the task loss (MODEL.MHKD.MAX_RATIO is %g): lower its weight",
                    name,
                    ratio,
                    self.max_ratio,
                )
