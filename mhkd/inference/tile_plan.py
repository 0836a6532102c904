"""Where to look on a slide: tiles that cover its tissue and as little else as they can."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from preprocess.base.geometry import Region
from preprocess.base.grid import grid_tiles
from preprocess.tissue.mask import TissueMask


@dataclass(frozen=True)
class TilePlan:
    """The tiles of one slide that will be looked at (level-0 pixels, row by row), and the tissue in the slide."""

    tiles: tuple[Region, ...]
    tissue: TissueMask


def plan_tiles(
    mask: TissueMask, wh_l0: tuple[float, float], overlap_l0: tuple[float, float], min_tissue: float
) -> TilePlan:
    """Tiles over the tissue of ``mask``, on whole level-0 pixels.

    Either a plain grid, or rows and tiles that start where tissue starts: what has fewer tiles.

    Args:
        wh_l0: width and height of a tile, in level-0 pixels.
        overlap_l0: of tiles that share tissue, along x and y, in level-0 pixels.
        min_tissue: tiles with a smaller share of their area in tissue are left out.
    """
    grid = grid_tiles(mask.region, wh_l0, overlap_l0, last="shift")
    plans = []
    for places in (grid, fit_to_tissue(mask, wh_l0, overlap_l0)):
        whole = (Region(math.floor(place.x), math.floor(place.y), *wh_l0) for place in places)
        plans.append(tuple(place for place in whole if mask.coverage(place) >= min_tissue))
    return TilePlan(min(plans, key=len), mask)


def fit_to_tissue(mask: TissueMask, wh_l0: tuple[float, float], overlap_l0: tuple[float, float]) -> list[Region]:
    """Rows of tiles from the top of the tissue, in each row from the left of its tissue, leaving out the gaps."""
    region = mask.region
    scale_x, scale_y = region.width / mask.mask.shape[1], region.height / mask.mask.shape[0]
    places = []
    for top in cover(mask.mask.any(axis=1), scale_y, wh_l0[1], overlap_l0[1]):
        band = mask.mask[math.floor(top / scale_y) : math.ceil((top + wh_l0[1]) / scale_y)]
        for left in cover(band.any(axis=0), scale_x, wh_l0[0], overlap_l0[0]):
            places.append(Region(region.x + left, region.y + top, *wh_l0))
    return places


def cover(tissue: Any, scale: float, tile: float, overlap: float) -> list[float]:
    """Starts of the tiles that cover the tissue along one axis, in level-0 pixels from its begin.

    A tile that ends in tissue, or less than the overlap before some, is followed by one that overlaps it. After a gap
    the next one starts a quarter of the overlap before the tissue, for the mask is coarse. None leaves the axis,
    unless the axis is shorter than a tile.

    Args:
        tissue: (N,) bool, whether there is tissue at each place of the axis.
        scale: length of such a place, in level-0 pixels.
        tile: length of a tile, in level-0 pixels.
        overlap: of tiles that follow each other, in level-0 pixels.
    """
    end = max(0.0, len(tissue) * scale - tile)
    columns = np.flatnonzero(tissue)
    starts: list[float] = []
    while len(columns):
        first = float(columns[0]) * scale
        follows = bool(starts) and first - (starts[-1] + tile) < overlap
        start = starts[-1] + tile - overlap if follows else first - overlap / 4
        starts.append(min(max(0.0, start), end))
        columns = columns[(columns + 1) * scale > starts[-1] + tile + 1e-6]
    return starts
