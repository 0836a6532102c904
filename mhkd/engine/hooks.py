"""Hooks of the trainer."""

from __future__ import annotations

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from mhkd.data.stream import PositionSampler


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
