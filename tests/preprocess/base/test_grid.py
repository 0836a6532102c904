from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.base.geometry import Region
from preprocess.base.grid import grid_tiles


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "last", "starts"),
    [
        (10, 5, 0, "shift", [0, 5]),
        (10, 5, 0, "drop", [0, 5]),
        (10, 5, 0, "keep", [0, 5]),
        (12, 5, 0, "shift", [0, 5, 7]),
        (12, 5, 0, "drop", [0, 5]),
        (12, 5, 0, "keep", [0, 5, 10]),
        (10, 4, 1, "shift", [0, 3, 6]),
        (11, 4, 1, "shift", [0, 3, 6, 7]),
        (11, 4, 1, "drop", [0, 3, 6]),
        (11, 4, 1, "keep", [0, 3, 6, 9]),
        (5, 5, 2, "shift", [0]),
        (3, 5, 0, "shift", [0]),
        (3, 5, 0, "keep", [0]),
        (3, 5, 0, "drop", []),
        (0.3, 0.1, 0, "shift", [0, 0.1, 0.2]),
    ],
)
def test_starts(length, tile, overlap, last, starts):
    grid = grid_tiles(Region(0, 0, length, length), (tile, tile), overlap, last)
    assert len(grid) == len(starts) ** 2
    assert [region.x for region in grid[: len(starts)]] == pytest.approx(starts)


def test_rows_first_and_in_the_frame_of_the_region():
    grid = grid_tiles(Region(100, 50, 20, 10), (10, 5))
    assert [(r.x, r.y) for r in grid] == [(100, 50), (110, 50), (100, 55), (110, 55)]
    assert grid[-1] == grid[3]
    assert grid[1:3] == [grid[1], grid[2]]
    with pytest.raises(IndexError):
        grid[4]


@pytest.mark.parametrize(("tile", "overlap", "last"), [((0, 5), 0, "shift"), ((5, 5), 5, "shift"), ((5, 5), 0, "wrap")])
def test_impossible_grids_are_refused(tile, overlap, last):
    with pytest.raises(ValueError, match=r"overlap|last"):
        grid_tiles(Region(0, 0, 10, 10), tile, overlap, last)


@given(st.floats(1, 300), st.floats(1, 100), st.floats(0, 0.9), st.sampled_from(["shift", "keep"]))
def test_every_point_is_covered_and_neighbours_overlap_enough(length, tile, fraction, last):
    overlap = fraction * tile
    xs = [region.x for region in grid_tiles(Region(0, 0, length, tile), (tile, tile), overlap, last)]
    assert xs[0] == 0
    assert xs[-1] + tile >= length - 1e-5
    assert all(b - a <= tile - overlap + 1e-5 for a, b in pairwise(xs))
    if last == "shift" and length >= tile:
        assert xs[-1] + tile <= length + 1e-5
