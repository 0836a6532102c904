"""The levels of a TIFF pyramid that are a plain grid of JPEG tiles: where the tiles are and how to decode one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from preprocess.base.geometry import Size
from preprocess.slides.readers.jpeg import decode_jpeg
from preprocess.slides.readers.reader import Image

_JPEG = 7
_COLORSPACES = {2: "RGB", 6: "YCBCR"}  # by TIFF photometric interpretation
_MAX_TILE_PX = 2048


class NotPlainError(Exception):
    """Why a TIFF cannot be read tile by tile, in a few words."""


@dataclass(frozen=True, eq=False)
class JpegLevel:
    """One level: its ``size`` and ``tile`` size in pixels, and of each tile, row by row, its place in the file.

    ``tables`` are the JPEG tables that the tiles share, if they do; ``colorspace`` is what the tiles store,
    RGB or YCBCR.
    """

    size: Size
    tile: Size
    offsets: NDArray[np.uint64]
    byte_counts: NDArray[np.uint64]
    tables: bytes | None
    colorspace: str

    @cached_property
    def num_columns(self) -> int:
        """How many tiles make a row."""
        return -(-self.size.width // self.tile.width)

    def decode(self, data: bytes) -> Image:
        """A tile's bytes as uint8 RGB (h, w, 3), at the full size of a tile. Raises UserError where it is damaged."""
        return decode_jpeg(data, tables=self.tables, stored_as=self.colorspace, size=self.tile)


def read_jpeg_levels(path: Path, sizes: list[Size]) -> tuple[JpegLevel, ...]:
    """The levels of these ``sizes``, in their order. Raises NotPlainError where one is no plain grid of JPEG tiles."""
    num_bytes = path.stat().st_size
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage) and page.is_tiled]
            return tuple(_level(pages, size, num_bytes) for size in sizes)
    except NotPlainError:
        raise
    except Exception as error:  # whatever is wrong with the file, OpenSlide is to say it
        raise NotPlainError(f"its structure is not readable ({type(error).__name__}: {error})") from error


def _level(pages: list[tifffile.TiffPage], size: Size, num_bytes: int) -> JpegLevel:
    matching = [page for page in pages if (page.imagewidth, page.imagelength) == (size.width, size.height)]
    if len(matching) != 1:
        raise NotPlainError(f"{len(matching)} tiled images have the size of a level")
    page = matching[0]
    stored = (page.compression, page.bitspersample, page.samplesperpixel, page.planarconfig, len(page.extrasamples))
    if stored != (_JPEG, 8, 3, 1, 0) or page.photometric not in _COLORSPACES:
        raise NotPlainError(f"the pixels are not 8-bit JPEG in RGB or YCbCr (compression {int(page.compression)})")
    if max(page.tilewidth, page.tilelength) > _MAX_TILE_PX or page.is_volumetric:
        raise NotPlainError(f"tiles of {page.tilewidth} x {page.tilelength} px are too large to keep some in memory")
    level = JpegLevel(
        size=size,
        tile=Size(page.tilewidth, page.tilelength),
        offsets=np.array(page.dataoffsets, np.uint64),
        byte_counts=np.array(page.databytecounts, np.uint64),
        tables=page.jpegtables,
        colorspace=_COLORSPACES[page.photometric],
    )
    num_tiles = level.num_columns * -(-size.height // level.tile.height)
    if len(level.offsets) != num_tiles or len(level.byte_counts) != num_tiles:
        raise NotPlainError(f"{len(level.offsets)} tiles where {num_tiles} are needed")
    if (level.byte_counts == 0).any():
        raise NotPlainError("tiles are missing")
    if (level.offsets + level.byte_counts).max() > num_bytes:
        raise NotPlainError("tiles end after the end of the file")
    return level
