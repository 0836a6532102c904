from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhkd.inference.tile_plan import cover, fit_to_tissue, plan_tiles
from preprocess.base.geometry import Region
from preprocess.base.grid import grid_tiles
from preprocess.tissue.mask import TissueMask

REGION = Region(40, 70, 960, 720)
axes = st.lists(st.booleans(), min_size=1, max_size=120).map(np.array)
masks = st.tuples(st.integers(4, 40), st.integers(4, 40), st.integers(0, 2**32 - 1), st.floats(0, 0.3)).map(
    lambda t: np.kron(np.random.default_rng(t[2]).random((t[0], t[1])) < t[3], np.ones((3, 3), bool))
)


@settings(max_examples=200, deadline=None)
@given(axes, st.floats(1, 20), st.floats(2, 40), st.floats(0, 0.5))
def test_one_axis_is_covered_and_no_object_within_the_overlap_is_cut(tissue, scale, tile_columns, share):
    tile, length = tile_columns * scale, len(tissue) * scale
    starts = cover(tissue, scale, tile, share * tile)
    assert all(start >= 0 and (start + tile <= length + 1e-6 or length < tile) for start in starts)
    assert all(a < b for a, b in pairwise(starts))
    edges = np.flatnonzero(np.diff(np.concatenate(([0], tissue.astype(int), [0]))))
    for first, end in zip(edges[::2] * scale, edges[1::2] * scale, strict=True):
        for low in np.arange(first, end, scale):
            high = min(low + max(share * tile, scale), end)
            whole = any(start - 1e-6 <= low and high <= start + tile + 1e-6 for start in starts)
            assert whole or high - low > share * tile


@settings(max_examples=60, deadline=None)
@given(masks, st.floats(20, 200), st.floats(20, 200))
def test_all_tissue_is_covered_in_both_directions(mask, width, height):
    tissue = TissueMask(mask, REGION, 0.5)
    tiles = fit_to_tissue(tissue, (width, height), (width / 4, height / 4))
    scale_x, scale_y = REGION.width / mask.shape[1], REGION.height / mask.shape[0]
    for row, column in np.argwhere(mask):
        for part in (0.01, 0.5, 0.99):
            x, y = REGION.x + (column + part) * scale_x, REGION.y + (row + part) * scale_y
            assert any(tile.x <= x <= tile.x1 and tile.y <= y <= tile.y1 for tile in tiles)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_a_plan_has_never_more_tiles_than_the_plain_grid_and_fewer_on_scattered_tissue(share):
    mask = np.zeros((120, 120), bool)
    mask[5:45, 20:44] = mask[70:110, 60:84] = True
    tissue, wh, overlap = TissueMask(mask, REGION, 0.5), (240.0, 240.0), (240 * share, 240 * share)
    grid = [tile for tile in grid_tiles(REGION, wh, overlap) if tissue.coverage(tile) >= 0.01]
    plan = plan_tiles(tissue, wh, overlap, 0.01)
    assert len(plan.tiles) < len(grid)
    assert plan.tissue.area_um2() == pytest.approx(mask.mean() * REGION.area * 0.25)
    assert all(tile.x == int(tile.x) and tile.y == int(tile.y) for tile in plan.tiles)


def test_no_tissue_is_no_tiles():
    assert plan_tiles(TissueMask(np.zeros((9, 9), bool), REGION, 0.5), (64.0, 64.0), (8.0, 8.0), 0.01).tiles == ()
