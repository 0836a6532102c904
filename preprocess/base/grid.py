"""The places of a grid of tiles over a region: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args, overload

from preprocess.base.geometry import Region

Last = Literal["shift", "drop", "keep"]

# Lengths below this many level-0 pixels are rounding noise, not a reason for one more tile.
_TOLERANCE_L0 = 1e-6


class Grid(Sequence[Region]):
    """Tiles of one size over ``region``, in rows from the upper left.

    ``tile_wh`` and ``overlap`` (one for both axes, or one each) are in level-0 pixels. What is left at the
    right and the lower edge:

    * ``shift``: the last tile is moved back so that it ends with the region;
    * ``drop``: no tile, so some of the region may stay uncovered;
    * ``keep``: the last tile sticks out of the region.

    A region smaller than a tile gives one tile that starts with the region and sticks out of it,
    except under ``drop``, which gives none.
    """

    def __init__(
        self,
        region: Region,
        tile_wh: tuple[float, float],
        overlap: float | tuple[float, float] = 0.0,
        last: Last = "shift",
    ) -> None:
        overlap_wh = overlap if isinstance(overlap, tuple) else (overlap, overlap)
        if last not in get_args(Last):
            raise ValueError(f"last must be one of {get_args(Last)}, not {last!r}")
        if not all(0 <= shared < side for shared, side in zip(overlap_wh, tile_wh, strict=True)):
            raise ValueError(f"an overlap of {overlap} does not fit tiles of {tile_wh}")
        self.region = region
        self.tile_wh = tile_wh
        self._xs = _starts(region.x, region.width, tile_wh[0], overlap_wh[0], last)
        self._ys = _starts(region.y, region.height, tile_wh[1], overlap_wh[1], last)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self._ys), len(self._xs)

    def __len__(self) -> int:
        return len(self._xs) * len(self._ys)

    @overload
    def __getitem__(self, index: int) -> Region: ...
    @overload
    def __getitem__(self, index: slice) -> list[Region]: ...
    def __getitem__(self, index: int | slice) -> Region | list[Region]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"tile {index} of a grid of {len(self)}")
        row, column = divmod(index % len(self), len(self._xs))
        return Region(self._xs[column], self._ys[row], *self.tile_wh)


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
