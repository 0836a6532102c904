"""Pixels through OpenSlide: every whole-slide format that it knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers.reader import DAMAGED, Image, on_white, read_inside, true_downsample

# Tiles of 4096 px are large.
_MAX_TILE_PIXELS = 1 << 26


class OpenSlideReader:
    """A slide that OpenSlide opens; see :class:`preprocess.slides.readers.reader.Reader`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise UserError(f"not readable as a slide: {error}", path=path, remedy=DAMAGED) from error
        self.size = Size(*self._slide.dimensions)
        self.downsamples = tuple(
            true_downsample(self.size, Size(*dimensions), stated)
            for dimensions, stated in zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
        )
        self.level_sizes = [Size(*dimensions) for dimensions in self._slide.level_dimensions]
        # A damaged slide may list properties that it does not have.
        self.properties = {name: self._slide.properties.get(name, "") for name in self._slide.properties}
        _check_tiles(path, self.properties)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether OpenSlide takes the file for one of its formats (it may still fail to open it)."""
        return openslide.OpenSlide.detect_format(path) is not None

    def read(self, level: int, x: int, y: int, size: Size) -> Image:
        stated = self._slide.level_downsamples[level]

        def read(x: int, y: int, part: Size) -> Image:
            place_l0 = round(x * stated), round(y * stated)
            try:
                rgba = np.asarray(self._slide.read_region(place_l0, level, (part.width, part.height)))
            except openslide.OpenSlideError as error:
                raise UserError(f"pixels not readable: {error}", path=self.path, remedy=DAMAGED) from error
            return on_white(rgba)

        # Not OpenSlide's own blank outside: left of and above the slide it is off by up to one pixel.
        return read_inside(read, self.level_sizes[level], x, y, size)

    def is_exact(self, level: int) -> bool:
        """Whether reads of ``level`` give its stored pixels: at a fractional factor OpenSlide interpolates."""
        return float(self._slide.level_downsamples[level]).is_integer()

    def close(self) -> None:
        self._slide.close()


def _check_tiles(path: Path, properties: Mapping[str, str]) -> None:
    """UserError where a damaged header states tiles so large that OpenSlide would find no memory for one, and abort."""
    for level in range(int(properties.get("openslide.level-count", 0))):
        width, height = (
            int(properties.get(f"openslide.level[{level}].tile-{side}", 0)) for side in ("width", "height")
        )
        if width * height > _MAX_TILE_PIXELS:
            raise UserError(f"level {level} has tiles of {width} x {height} px", path=path, remedy=DAMAGED)
