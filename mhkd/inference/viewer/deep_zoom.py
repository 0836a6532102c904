"""A slide as a pyramid of square tiles, as deep-zoom viewers ask for it: any format, our calibration, what was scanned.

In the *display frame* the pixels are square and (0, 0) is the corner of what was scanned. It has the slide's
resolution along its finer axis, so for nearly every slide it is level 0 without what the scanner left out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preprocess.base.geometry import Region, Size, size_at
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide

TILE_PX, OVERLAP_PX = 254, 1  # 256 pixels with its overlap, which hides the seams


class DeepZoom:
    """Tiles of ``slide``: each level is twice as large as the one before, ``max_level`` has all pixels.

    ``min_level`` is the last that is a single tile; as for other deep-zoom pictures, level 0 would be one pixel.
    ``size`` is that of the display frame. Reading is safe from several threads.
    """

    def __init__(self, slide: Slide) -> None:
        self.slide = slide
        self.mpp = min(slide.mpp_xy)
        self.size = size_at(slide.region, self.mpp, slide.mpp_xy)
        longest = max(self.size.width, self.size.height)
        self.max_level = math.ceil(math.log2(longest))
        self.min_level = self.max_level - max(0, math.ceil(math.log2(longest / TILE_PX)))

    def level_size(self, level: int) -> Size:
        """The size of ``level`` in its own pixels."""
        factor = self._factor(level)
        return Size(math.ceil(self.size.width / factor), math.ceil(self.size.height / factor))

    def num_tiles(self, level: int) -> tuple[int, int]:
        """How many columns and rows of tiles ``level`` has."""
        size = self.level_size(level)
        return math.ceil(size.width / TILE_PX), math.ceil(size.height / TILE_PX)

    def tile(self, level: int, column: int, row: int) -> Image:
        """One tile, uint8 RGB; at the right and lower end it is smaller.

        Raises:
            IndexError: there is no such tile.
            UserError: the slide cannot be read.
        """
        if not self.min_level <= level <= self.max_level:
            raise IndexError(f"no level {level}")
        columns, rows = self.num_tiles(level)
        if not (0 <= column < columns and 0 <= row < rows):
            raise IndexError(f"no tile {column}, {row} on level {level}")
        size, factor = self.level_size(level), self._factor(level)
        x0, y0 = max(0, column * TILE_PX - OVERLAP_PX), max(0, row * TILE_PX - OVERLAP_PX)
        x1 = min(size.width, (column + 1) * TILE_PX + OVERLAP_PX)
        y1 = min(size.height, (row + 1) * TILE_PX + OVERLAP_PX)
        box = np.array([[x0, y0, x1, y1]]) * factor
        ((left, top, right, bottom),) = self.slide.region.to_l0(box, self.size).tolist()
        return self.slide.read(Region(left, top, right - left, bottom - top), Size(x1 - x0, y1 - y0))

    def to_display(self, boxes_l0: ArrayLike) -> NDArray[np.float64]:
        """Boxes (N, 4) xyxy in level-0 pixels of the slide -> the display frame."""
        return self.slide.region.to_px(boxes_l0, self.size)

    def _factor(self, level: int) -> int:
        return 1 << (self.max_level - level)
