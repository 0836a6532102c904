"""Pixels straight from the JPEG tiles of a TIFF pyramid, where they are the ones that OpenSlide gives.

OpenSlide spends most of its time composing tiles, so this reader is several times as fast. OpenSlide remains the
reference: it says what the levels and the properties are, it reads what cannot be read here, and some tiles of every
level are first compared with it, pixel by pixel.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from preprocess.base.errors import UserError, named
from preprocess.base.geometry import Size
from preprocess.slides.readers.jpeg_level import JpegLevel, NotPlainError, read_jpeg_levels
from preprocess.slides.readers.openslide import OpenSlideReader
from preprocess.slides.readers.reader import Image, Reader, paste, read_inside, tiles_under

READERS = ("auto", "openslide", "tiff")
READER_VARIABLE = "MHKD_READER"
"""The environment variable that names the reader, one of READERS; unset is auto."""

_VENDORS = ("aperio", "generic-tiff")  # the others place their tiles by rules of their own
_CACHE_BYTES = 96 << 20
_CHECK_PX = 64
# A thumbnail, on which a search waits, is decoded in several threads.
_MANY_TILES = 90
_MOST_THREADS = 4


def open_wsi(path: Path, reader: str | None = None) -> Reader:
    """A slide that OpenSlide recognises, through the fastest reader that gives OpenSlide's pixels.

    ``reader`` is one of READERS, by default what the environment variable MHKD_READER says: ``openslide``
    takes no short cut, ``tiff`` takes nothing else. Raises UserError where the slide cannot be opened so.
    """
    reader = reader or os.environ.get(READER_VARIABLE) or "auto"
    if reader not in READERS:
        raise UserError(f"there is no reader {reader!r}", remedy=f"choose one of {', '.join(READERS)}")
    reference = OpenSlideReader(path)
    if reader == "openslide":
        return reference
    status = path.stat()
    levels = _proven(path, status.st_size, status.st_mtime_ns)
    if not isinstance(levels, str):
        return JpegTiffReader(reference, levels)
    if reader == "auto":
        return reference
    reference.close()
    raise UserError(f"not readable tile by tile: {levels}", path=path, remedy="use the reader auto")


class JpegTiffReader:
    """A slide whose JPEG tiles are decoded here; see :class:`preprocess.slides.readers.reader.Reader`.

    Safe to use from several threads. The 96 MiB of tiles used last are kept: a row of a slide 120,000 pixels wide.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, reference: OpenSlideReader, levels: tuple[JpegLevel, ...]) -> None:
        self.size, self.downsamples, self.properties = reference.size, reference.downsamples, reference.properties
        self.tiles = tuple(level.tile for level in levels)
        self._reference = reference
        self._levels = levels
        self._file = os.open(reference.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._seek_lock = threading.Lock()
        self._cache = _TileCache(_CACHE_BYTES)

    def read(self, level: int, x: int, y: int, size: Size) -> Image:
        return read_inside(lambda x, y, part: self._read(level, x, y, part), self._levels[level].size, x, y, size)

    def _read(self, level: int, x: int, y: int, size: Size) -> Image:
        grid = self._levels[level]
        canvas = np.empty((size.height, size.width, 3), np.uint8)

        def put(place: tuple[int, int]) -> None:
            row, column = place
            tile = self._tile(level, row * grid.num_columns + column)
            paste(canvas, tile, column * grid.tile.width - x, row * grid.tile.height - y)

        places = tiles_under(x, y, size, grid.tile)
        if len(places) < _MANY_TILES:
            deque(map(put, places), maxlen=0)
        else:
            with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
                deque(pool.map(put, places), maxlen=0)
        return canvas

    def close(self) -> None:
        os.close(self._file)
        self._file = -1
        self._cache = _TileCache(0)
        self._reference.close()

    def _tile(self, level: int, index: int) -> Image:
        """A whole tile. Raises UserError where it is damaged."""
        tile = self._cache.get((level, index))
        if tile is None:
            grid = self._levels[level]
            with named(self._reference.path):
                tile = grid.decode(self._read_bytes(int(grid.offsets[index]), int(grid.byte_counts[index])))
            self._cache.put((level, index), tile)
        return tile

    def _read_bytes(self, offset: int, num_bytes: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file, num_bytes, offset)
        with self._seek_lock:  # Windows: the place in the file is one for all threads
            os.lseek(self._file, offset, os.SEEK_SET)
            return os.read(self._file, num_bytes)


class _TileCache:
    """The tiles used last, as many as fit into ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._tiles: OrderedDict[tuple[int, int], Image] = OrderedDict()
        self._room = max_bytes
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> Image | None:
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: tuple[int, int], tile: Image) -> None:
        with self._lock:
            if key in self._tiles:  # another thread was faster
                return
            self._tiles[key] = tile
            self._room -= tile.nbytes
            while self._room < 0:
                self._room += self._tiles.popitem(last=False)[1].nbytes


@lru_cache(maxsize=8)
def _proven(path: Path, num_bytes: int, modified_ns: int) -> tuple[JpegLevel, ...] | str:
    """The levels of a slide that is read here as by OpenSlide, or why it is not.

    ``num_bytes`` and ``modified_ns`` make a changed file another one.
    """
    reference = OpenSlideReader(path)
    try:
        vendor = reference.properties.get("openslide.vendor", "")
        if vendor not in _VENDORS:
            return f"the format {vendor} has rules of its own"
        levels = read_jpeg_levels(path, reference.level_sizes)
    except NotPlainError as error:
        reference.close()
        return str(error)
    reader = JpegTiffReader(reference, levels)
    try:
        for level, grid in enumerate(levels):
            for x, y, size in _samples(grid, exact=reference.is_exact(level)):
                try:
                    pixels = reader.read(level, x, y, size)
                except UserError:  # damaged: OpenSlide may show grey there, and says nothing
                    continue
                if not np.array_equal(pixels, reference.read(level, x, y, size)):
                    return f"level {level} differs from what OpenSlide reads at ({x}, {y})"
    except UserError as error:
        return f"a sample is not readable: {error.reason}"
    finally:
        reader.close()
    return levels


def _samples(grid: JpegLevel, exact: bool) -> Iterator[tuple[int, int, Size]]:
    """Where to compare a level: its first pixels, and around the first corner of the fullest and of the last tile.

    Only the first pixels where OpenSlide's places are not ``exact``, since it interpolates between pixels then.
    """
    places = [(0, 0)]
    if exact:
        for index in (int(np.argmax(grid.byte_counts)), len(grid.byte_counts) - 1):
            row, column = divmod(index, grid.num_columns)
            places.append((column * grid.tile.width, row * grid.tile.height))
    for x, y in places:
        left, top = max(0, x - _CHECK_PX // 2), max(0, y - _CHECK_PX // 2)
        size = Size(min(grid.tile.width, grid.size.width - left), min(grid.tile.height, grid.size.height - top))
        yield left, top, size
