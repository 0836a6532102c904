"""What every way to get pixels offers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from preprocess.base.geometry import Size

Image = NDArray[np.uint8]
Factors = tuple[float, float]

DAMAGED = "the file is damaged or not complete: copy or export it again"


class Reader(Protocol):
    """An open slide: its levels, its properties, its pixels."""

    @property
    def size(self) -> Size:
        """Level 0, in pixels."""

    @property
    def downsamples(self) -> tuple[Factors, ...]:
        """Level-0 pixels per pixel of each level along x and along y, ascending, starting with (1, 1)."""

    @property
    def tiles(self) -> tuple[Size, ...]:
        """Of each level, the tiles from its corner on of which one may be unreadable and another not, in pixels."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of the file and need not mend, each in a few words."""

    @property
    def properties(self) -> Mapping[str, str]:
        """What the file says about itself, under OpenSlide's names."""

    def read(self, level: int, x: int, y: int, size: Size) -> Image:
        """The ``size`` pixels of ``level`` from its pixel (x, y) on: uint8 RGB (h, w, 3).

        Pixel (x, y) of a level covers the level-0 square from (x, y) to (x + 1, y + 1) times the downsamples.
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


def level_factors(slide: Size, level: Size) -> Factors:
    """The factors along x and y that a level was made with, from its size and that of level 0.

    Writers average whole blocks and crop or pad what is left, so where a whole number explains both sides, that is the
    factor of both: a ratio such as 4.0001 would drift by up to a pixel of the level over the slide, and the ratio of a
    side of a few pixels says little. A power of two goes first. Else each side has been resized to what it is.
    """
    ratios = slide.width / level.width, slide.height / level.height
    ratio = ratios[0] if level.width > level.height else ratios[1]
    powers = sorted(
        (2.0 ** math.floor(math.log2(ratio)), 2.0 ** math.ceil(math.log2(ratio))), key=lambda p: abs(p - ratio)
    )
    for whole in (*powers, float(max(1, round(ratio)))):
        if abs(slide.width / whole - level.width) < 1 and abs(slide.height / whole - level.height) < 1:
            return whole, whole
    return ratios


def on_white(rgba: Image) -> Image:
    """Composite RGBA (straight alpha) on white: outside a slide OpenSlide gives transparent black."""
    rgb = np.ascontiguousarray(rgba[..., :3])
    # By rows, since in float a large region would take ten times its memory.
    for row in np.flatnonzero(rgba[..., 3].min(axis=1) < 255).tolist():
        opacity = rgba[row, :, 3:].astype(np.float32) / 255
        rgb[row] = np.rint(rgb[row] * opacity + 255 * (1 - opacity))
    return rgb
