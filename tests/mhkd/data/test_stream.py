from __future__ import annotations

from itertools import groupby, islice

import numpy as np

from mhkd.data.stream import PositionSampler, TileStream, build_stream_loader


def make_stream() -> TileStream:
    tiles = [{"id": i, "labelled": True} for i in range(5)]
    return TileStream(tiles, lambda tile, rng: (tile["id"], float(rng.random())), seed=4)


def test_each_epoch_sees_every_tile_once_in_its_own_order() -> None:
    stream = make_stream()
    epochs = [[stream[p][0] for p in range(e * 5, e * 5 + 5)] for e in range(4)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_stream_that_starts_late_continues_exactly() -> None:
    def batches(start: int, count: int) -> list[list[tuple[int, float]]]:
        sampler = PositionSampler()
        sampler.start = start
        return list(islice(build_stream_loader(make_stream(), sampler, 2, 0), count))

    assert batches(6, 2) == batches(0, 5)[3:]


def test_an_order_is_worked_out_once_an_epoch(monkeypatch) -> None:
    drawn: list[object] = []
    default_rng = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: drawn.append(seed) or default_rng(seed))
    stream = make_stream()
    found = [stream[position][0] for position in (*range(12), 0)]
    assert [seed for seed in drawn if seed[1] == 0] == [(4, 0, 0), (4, 0, 1), (4, 0, 2), (4, 0, 0)]
    assert found[-1] == found[0]


def test_memory_is_pinned_where_that_is_asked_for() -> None:
    loaders = [build_stream_loader(make_stream(), PositionSampler(), 2, 0, pin_memory=pin) for pin in (False, True)]
    assert [loader.pin_memory for loader in loaders] == [False, True]


def test_processes_share_the_positions() -> None:
    dealt = [list(islice(PositionSampler(rank, 2), 3)) for rank in (0, 1)]
    assert np.sort(np.concatenate(dealt)).tolist() == [0, 1, 2, 3, 4, 5]


def mixed(share: float, unlabelled: int = 7) -> TileStream:
    tiles = [{"id": i, "labelled": i < 5} for i in range(5 + unlabelled)]
    return TileStream(tiles, lambda tile, rng: (tile["id"], float(rng.random())), seed=4, unlabelled_share=share)


def test_unlabelled_tiles_get_their_share_of_every_hundred() -> None:
    for share in (0.0, 0.3, 0.8, 1.0):
        stream = mixed(share)
        ids = [stream[position][0] for position in range(200)]
        assert [sum(i >= 5 for i in ids[start : start + 100]) for start in (0, 100)] == [round(100 * share)] * 2
        labelled, others = ([i for i in ids if (i < 5) == kind] for kind in (True, False))
        for found, size in ((labelled, 5), (others, 7)):  # each kind in epochs of its own
            epochs = [tuple(found[start : start + size]) for start in range(0, len(found) - size + 1, size)]
            assert all(len(set(epoch)) == size for epoch in epochs)
    runs = [len(list(group)) for _, group in groupby(mixed(0.5)[position][0] < 5 for position in range(100))]
    assert max(runs) < 12  # batches are mixed
    assert [stream[position] for position in (150, 3)] == [mixed(1.0)[position] for position in (150, 3)]


def test_without_unlabelled_tiles_the_share_changes_nothing() -> None:
    assert [mixed(0.5, unlabelled=0)[p] for p in range(12)] == [make_stream()[p] for p in range(12)]
