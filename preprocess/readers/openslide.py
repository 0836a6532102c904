"""Pixels through OpenSlide: every whole-slide format that it knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide

from preprocess.errors import UserError
from preprocess.geometry import Size
from preprocess.readers.reader import Image, read_inside

_DAMAGED = "the file is damaged or not complete: copy or export it again"
# Tiles of 4096 px are large.
_MAX_TILE_PIXELS = 1 << 26


class OpenSlideReader:
    """A slide that OpenSlide opens; see :class:`preprocess.readers.reader.Reader`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise UserError(f"not readable as a slide: {error}", path=path, remedy=_DAMAGED) from error
        self.size = Size(*self._slide.dimensions)
        self.downsamples = tuple(
            _true_downsample(self.size, Size(*dimensions), downsample)
            for dimensions, downsample in zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
        )
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
                raise UserError(f"pixels not readable: {error}", path=self._path, remedy=_DAMAGED) from error
            return _on_white(rgba)

        # Not OpenSlide's own blank outside: left of and above the slide it is off by up to one pixel.
        return read_inside(read, Size(*self._slide.level_dimensions[level]), x, y, size)

    def close(self) -> None:
        self._slide.close()


def _check_tiles(path: Path, properties: Mapping[str, str]) -> None:
    """UserError where a damaged header states tiles so large that OpenSlide would find no memory for one, and abort."""
    for level in range(int(properties.get("openslide.level-count", 0))):
        width, height = (
            int(properties.get(f"openslide.level[{level}].tile-{side}", 0)) for side in ("width", "height")
        )
        if width * height > _MAX_TILE_PIXELS:
            raise UserError(f"level {level} has tiles of {width} x {height} px", path=path, remedy=_DAMAGED)


def _true_downsample(slide: Size, level: Size, stated: float) -> float:
    """The factor that a level was made with.

    OpenSlide states the ratio of the two sizes, such as 4.0001. Writers average whole blocks and crop or
    pad what is left, so where a whole number explains the size, that is the factor; the ratio would drift
    by up to one pixel of the level over the slide, and the sizes of a tile pair with it.
    """
    whole = round(stated)
    explains = abs(slide.width / whole - level.width) < 1 and abs(slide.height / whole - level.height) < 1
    return float(whole) if explains else stated


def _on_white(rgba: Image) -> Image:
    """Composite RGBA (straight alpha) on white: outside a slide OpenSlide gives transparent black."""
    rgb = np.ascontiguousarray(rgba[..., :3])
    # By rows, since in float a large region would take ten times its memory.
    for row in np.flatnonzero(rgba[..., 3].min(axis=1) < 255).tolist():
        opacity = rgba[row, :, 3:].astype(np.float32) / 255
        rgb[row] = np.rint(rgb[row] * opacity + 255 * (1 - opacity))
    return rgb
