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

_BLOCK = 100


class TileStream(Dataset):
    """Maps a position 0, 1, 2, ... to an augmented sample; each epoch is its own permutation.

    Where some tiles are not ``labelled``, they get ``unlabelled_share`` of every hundred positions, and the two kinds
    have epochs of their own.
    """

    def __init__(
        self,
        tiles: list[dict[str, Any]],
        mapper: Callable[[dict[str, Any], np.random.Generator], Any],
        seed: int,
        unlabelled_share: float = 0.5,
    ) -> None:
        self.mapper = mapper
        self.seed = seed
        labelled, unlabelled = ([tile for tile in tiles if tile["labelled"] == kind] for kind in (True, False))
        self.streams = _Shuffled(labelled, seed, 0), _Shuffled(unlabelled, seed, 2)
        self.num_unlabelled = round(_BLOCK * unlabelled_share) if unlabelled else 0

    def __getitem__(self, position: int) -> Any:
        kind, place = self._locate(position)
        return self.mapper(self.streams[kind][place], np.random.default_rng((self.seed, 1, position)))

    def _locate(self, position: int) -> tuple[int, int]:
        """0 for a labelled tile and 1 for an unlabelled one, and the how manieth of its kind that is."""
        if not self.num_unlabelled:
            return 0, position
        block, place = divmod(position, _BLOCK)
        order = np.random.default_rng((self.seed, 3, block)).permutation(_BLOCK)
        kinds = order < self.num_unlabelled
        kind = int(kinds[place])
        per_block = (_BLOCK - self.num_unlabelled, self.num_unlabelled)[kind]
        return kind, block * per_block + int((kinds[:place] == kind).sum())


class _Shuffled:
    """Endless tiles: those of epoch after epoch, each in an order of its own."""

    def __init__(self, tiles: list[dict[str, Any]], seed: int, kind: int) -> None:
        self.tiles = tiles
        self.key = seed, kind
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)  # the order that was worked out last

    def __getitem__(self, position: int) -> dict[str, Any]:
        epoch, place = divmod(position, len(self.tiles))
        if epoch != self._epoch:
            self._order = np.random.default_rng((*self.key, epoch)).permutation(len(self.tiles))
            self._epoch = epoch
        return self.tiles[self._order[place]]


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
