"""The places of a grid of tiles over a region: pure arithmetic."""

from __future__ import annotations

import math
from typing import Literal, get_args

from preprocess.base.geometry import Region

Last = Literal["shift", "drop", "keep"]

# Lengths below this many level-0 pixels are rounding noise, not a reason for one more tile.
_TOLERANCE_L0 = 1e-6


def grid_tiles(
    region: Region, tile_wh: tuple[float, float], overlap: float | tuple[float, float] = 0.0, last: Last = "shift"
) -> list[Region]:
    """Tiles of one size over ``region``, in rows from the upper left.

    ``tile_wh`` and ``overlap`` (one for both axes, or one each) are in level-0 pixels. What is left at the
    right and the lower edge:

    * ``shift``: the last tile is moved back so that it ends with the region;
    * ``drop``: no tile, so some of the region may stay uncovered;
    * ``keep``: the last tile sticks out of the region.

    A region smaller than a tile gives one tile that starts with the region and sticks out of it,
    except under ``drop``, which gives none.
    """
    overlap_wh = overlap if isinstance(overlap, tuple) else (overlap, overlap)
    if last not in get_args(Last):
        raise ValueError(f"last must be one of {get_args(Last)}, not {last!r}")
    if not all(0 <= shared < side for shared, side in zip(overlap_wh, tile_wh, strict=True)):
        raise ValueError(f"an overlap of {overlap} does not fit tiles of {tile_wh}")
    xs = _starts(region.x, region.width, tile_wh[0], overlap_wh[0], last)
    ys = _starts(region.y, region.height, tile_wh[1], overlap_wh[1], last)
    return [Region(x, y, *tile_wh) for y in ys for x in xs]


def _starts(start: float, length: float, tile: float, overlap: float, last: Last) -> list[float]:
    """Where the tiles start along one axis."""
    room = length - tile
    if room < -_TOLERANCE_L0:
        return [] if last == "drop" else [start]
    stride = tile - overlap
    num_whole = math.floor((room + _TOLERANCE_L0) / stride) + 1
    starts = [start + i * stride for i in range(num_whole)]
    rest = room - (num_whole - 1) * stride
    if rest > _TOLERANCE_L0 and last == "shift":
        starts.append(start + room)
    elif rest > _TOLERANCE_L0 and last == "keep":
        starts.append(start + num_whole * stride)
    return starts
