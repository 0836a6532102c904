"""What every way to get pixels offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from preprocess.base.geometry import Size

Image = NDArray[np.uint8]

DAMAGED = "the file is damaged or not complete: copy or export it again"


class Reader(Protocol):
    """An open slide: its levels, its properties, its pixels."""

    @property
    def size(self) -> Size:
        """Level 0, in pixels."""

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each level, ascending, starting with 1."""

    @property
    def properties(self) -> Mapping[str, str]:
        """What the file says about itself, under OpenSlide's names."""

    def read(self, level: int, x: int, y: int, size: Size) -> Image:
        """The ``size`` pixels of ``level`` from its pixel (x, y) on: uint8 RGB (h, w, 3).

        Pixel (x, y) of a level covers the level-0 square from (x, y) to (x + 1, y + 1) times the downsample.
        White outside the slide and where the slide is transparent. Raises UserError where the
        pixels cannot be decoded.
        """

    def close(self) -> None:
        """Close the file; reading is an error from now on."""


def read_inside(read: Callable[[int, int, Size], Image], level: Size, x: int, y: int, size: Size) -> Image:
    """The part of a request that lies on its level, from ``read(x, y, size)``, on white."""
    if x >= 0 and y >= 0 and x + size.width <= level.width and y + size.height <= level.height:
        return read(x, y, size)
    canvas = np.full((size.height, size.width, 3), 255, np.uint8)
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + size.width, level.width), min(y + size.height, level.height)
    if x1 > x0 and y1 > y0:
        paste(canvas, read(x0, y0, Size(x1 - x0, y1 - y0)), x0 - x, y0 - y)
    return canvas


def paste(canvas: Image, tile: Image, x: int, y: int) -> None:
    """Put what of ``tile`` lies on ``canvas`` there; (x, y) is the tile's place and may be negative."""
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + tile.shape[1], canvas.shape[1]), min(y + tile.shape[0], canvas.shape[0])
    canvas[top:bottom, left:right] = tile[top - y : bottom - y, left - x : right - x]


def tiles_under(x: int, y: int, size: Size, tile: Size) -> list[tuple[int, int]]:
    """Row and column of each tile of a level, all of size ``tile``, under the rectangle of ``size`` at (x, y)."""
    rows = range(y // tile.height, -(-(y + size.height) // tile.height))
    columns = range(x // tile.width, -(-(x + size.width) // tile.width))
    return list(product(rows, columns))


def true_downsample(slide: Size, level: Size, stated: float | None = None) -> float:
    """The factor that a level was made with; ``stated`` is by default the ratio of the two sizes.

    Writers average whole blocks and crop or pad what is left, so where a whole number explains the size, that is the
    factor; a ratio such as 4.0001 would drift by up to one pixel of the level over the slide.
    """
    factor = (slide.width / level.width + slide.height / level.height) / 2 if stated is None else stated
    whole = max(1, round(factor))
    explains = abs(slide.width / whole - level.width) < 1 and abs(slide.height / whole - level.height) < 1
    return float(whole) if explains else factor


def on_white(rgba: Image) -> Image:
    """Composite RGBA (straight alpha) on white: outside a slide OpenSlide gives transparent black."""
    rgb = np.ascontiguousarray(rgba[..., :3])
    # By rows, since in float a large region would take ten times its memory.
    for row in np.flatnonzero(rgba[..., 3].min(axis=1) < 255).tolist():
        opacity = rgba[row, :, 3:].astype(np.float32) / 255
        rgb[row] = np.rint(rgb[row] * opacity + 255 * (1 - opacity))
    return rgb
