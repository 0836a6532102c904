"""Pixels through OpenSlide: every whole-slide format that it knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers.reader import DAMAGED, Factors, Image, level_factors, on_white, read_inside

GENERIC_TIFF = "generic-tiff"
"""OpenSlide's name of a tiled TIFF that is of no vendor."""
# Tiles of 4096 px are large.
_MAX_TILE_PIXELS = 1 << 26
_TILE_PX = 256  # where a format does not say


class OpenSlideReader:
    """A slide that OpenSlide opens; see :class:`preprocess.slides.readers.reader.Reader`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise UserError(f"not readable as a slide: {error}", path=path, remedy=DAMAGED) from error
        self.size = Size(*self._slide.dimensions)
        self.level_sizes = [Size(*dimensions) for dimensions in self._slide.level_dimensions]
        self.downsamples = tuple(map(self._factors, self.level_sizes, self._slide.level_downsamples))
        # A damaged slide may list properties that it does not have.
        self.properties = {name: self._slide.properties.get(name, "") for name in self._slide.properties}
        is_part = self.properties.get("dicom.ImageType[3]") == "RESAMPLED"
        self.remarks = ("its finest level is a reduced one: files of the series may be missing",) if is_part else ()
        self.tiles = tuple(_tile(path, self.properties, level) for level in range(len(self.level_sizes)))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether OpenSlide takes the file for one of its formats (it may still fail to open it)."""
        return OpenSlideReader.format_of(path) is not None

    @staticmethod
    def format_of(path: Path) -> str | None:
        """The format that OpenSlide takes the file for, by its name."""
        return openslide.OpenSlide.detect_format(path)

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

    def _factors(self, level: Size, stated: float) -> Factors:
        """The factors of a level; ``stated`` by OpenSlide is the mean of both ratios, or what the format says."""
        mean = (self.size.width / level.width + self.size.height / level.height) / 2
        return level_factors(self.size, level) if math.isclose(stated, mean) else (stated, stated)

    def is_exact(self, level: int) -> bool:
        """Whether reads of ``level`` give its stored pixels: at a fractional factor OpenSlide interpolates."""
        return float(self._slide.level_downsamples[level]).is_integer()

    def close(self) -> None:
        self._slide.close()


def _tile(path: Path, properties: Mapping[str, str], level: int) -> Size:
    """The tiles of a level. UserError where a damaged header makes them so large that OpenSlide would find no memory
    for one, and abort."""
    width, height = (int(properties.get(f"openslide.level[{level}].tile-{side}", 0)) for side in ("width", "height"))
    if width * height > _MAX_TILE_PIXELS:
        raise UserError(f"level {level} has tiles of {width} x {height} px", path=path, remedy=DAMAGED)
    return Size(width or _TILE_PX, height or _TILE_PX)
