"""An endless, shuffled stream of training tiles in which position N is always the same sample.

Order and augmentation derive from (seed, position) alone, so a run that stops and resumes at any iteration
sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class TileStream(Dataset):
    """Maps a position 0, 1, 2, ... to an augmented sample; each epoch is its own permutation."""

    def __init__(
        self, tiles: list[dict[str, Any]], mapper: Callable[[dict[str, Any], np.random.Generator], Any], seed: int
    ) -> None:
        self.tiles = tiles
        self.mapper = mapper
        self.seed = seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)  # the order that was worked out last

    def __getitem__(self, position: int) -> Any:
        epoch, place = divmod(position, len(self.tiles))
        if epoch != self._epoch:
            self._order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.tiles))
            self._epoch = epoch
        return self.mapper(self.tiles[self._order[place]], np.random.default_rng((self.seed, 1, position)))


class PositionSampler(Sampler[int]):
    """Endless positions from ``start``, dealt out to the processes of a distributed run in turn."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.start = 0
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[int]:
        position = self.start + self.rank
        while True:
            yield position
            position += self.world_size


def build_stream_loader(
    stream: TileStream, sampler: PositionSampler, batch_size: int, num_workers: int, *, pin_memory: bool = False
) -> DataLoader:
    """A loader that yields lists of ``batch_size`` samples of this process, in order, without end.

    Args:
        pin_memory: images come in page-locked memory, which goes to a GPU faster; for training on one.
    """
    return DataLoader(
        stream,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=list,
        worker_init_fn=_one_thread,
        # Without its own generator a new iterator draws from the global one, in the middle of a seeded step.
        generator=torch.Generator(),
        persistent_workers=num_workers > 0,
    )


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
