"""A slide with unreadable places: what can be read is, and the rest is white and on record."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import cv2
import numpy as np

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.calibration import Calibration
from preprocess.slides.readers.reader import Image, Reader, paste, tiles_under
from preprocess.slides.slide import Slide, open_reader


class DamagedSlide(Slide):
    """A :class:`preprocess.slides.slide.Slide` that goes on where pixels cannot be read.

    Safe to use from several threads, as the slide is. Raises UserError where the slide as a whole cannot be opened any
    more, such as one that has vanished.
    """

    def __init__(self, path: Path, reader: Reader, calibration: Calibration) -> None:
        self._forgiving = _ForgivingReader(path, reader)
        super().__init__(path, self._forgiving, calibration)

    @property
    def unreadable_l0(self) -> np.ndarray:
        """The tiles under what was asked for that are white for this reason: (M, 4) xyxy, level-0 px, by rows."""
        return self._forgiving.unreadable_l0


class _ForgivingReader:
    """A reader in whose place another is opened after each error, as OpenSlide's refuses everything after its first.

    What fails is read again tile by tile. A tile that then fails is not tried again: it is made of the next finer
    level, or white on level 0. So one unreadable tile costs two reopenings, and further ones in the same read one each.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.size, self.downsamples, self.tiles = reader.size, reader.downsamples, reader.tiles
        self.properties, self.remarks = reader.properties, reader.remarks
        self._path = path
        self._reader = reader
        self._lock = threading.RLock()
        self._unreadable: set[tuple[int, int, int]] = set()  # level, row, column

    @property
    def unreadable_l0(self) -> np.ndarray:
        tile, inside = self.tiles[0], [self.size.width, self.size.height] * 2
        with self._lock:
            places = sorted((row, column) for level, row, column in self._unreadable if level == 0)
        corners = [(column, row, column + 1, row + 1) for row, column in places]
        boxes = np.array(corners, np.float64).reshape(-1, 4) * ([tile.width, tile.height] * 2)
        return np.minimum(boxes, inside)

    def read(self, level: int, x: int, y: int, size: Size) -> Image:
        with self._lock:  # a reader that failed is closed, and no one else may be using it
            unreadable = any((level, *place) in self._unreadable for place in self._tiles_under(level, x, y, size))
            pixels = None if unreadable else self._try(level, x, y, size)
            return self._by_tiles(level, x, y, size) if pixels is None else pixels

    def close(self) -> None:
        self._reader.close()

    def _by_tiles(self, level: int, x: int, y: int, size: Size) -> Image:
        image = np.full((size.height, size.width, 3), 255, np.uint8)
        tile = self.tiles[level]
        for row, column in self._tiles_under(level, x, y, size):
            left, top = max(x, column * tile.width), max(y, row * tile.height)
            right, bottom = (
                min(x + size.width, (column + 1) * tile.width),
                min(y + size.height, (row + 1) * tile.height),
            )
            part = Size(right - left, bottom - top)
            pixels = None if (level, row, column) in self._unreadable else self._try(level, left, top, part)
            if pixels is None:
                self._unreadable.add((level, row, column))
                pixels = self._from_finer_level(level, left, top, part)
            paste(image, pixels, left - x, top - y)
        return image

    def _from_finer_level(self, level: int, x: int, y: int, size: Size) -> Image:
        """The same place made of more pixels: a coarse level may be damaged and a finer one not. White on level 0."""
        if level == 0:
            return np.full((size.height, size.width, 3), 255, np.uint8)
        (factor_x, factor_y), (finer_x, finer_y) = self.downsamples[level], self.downsamples[level - 1]
        factor_x, factor_y = factor_x / finer_x, factor_y / finer_y
        place = Size(max(1, round(size.width * factor_x)), max(1, round(size.height * factor_y)))
        pixels = self.read(level - 1, round(x * factor_x), round(y * factor_y), place)
        small = cv2.resize(pixels, (size.width, size.height), interpolation=cv2.INTER_AREA)
        return small.astype(np.uint8, copy=False)

    def _tiles_under(self, level: int, x: int, y: int, size: Size) -> list[tuple[int, int]]:
        """Row and column of the tiles under a request that may reach beyond the level."""
        factor_x, factor_y = self.downsamples[level]
        right = min(x + size.width, math.ceil(self.size.width / factor_x))
        bottom = min(y + size.height, math.ceil(self.size.height / factor_y))
        left, top = max(0, x), max(0, y)
        if right <= left or bottom <= top:
            return []
        return tiles_under(left, top, Size(right - left, bottom - top), self.tiles[level])

    def _try(self, level: int, x: int, y: int, size: Size) -> Image | None:
        """The pixels, or None and a new reader where they cannot be read."""
        try:
            return self._reader.read(level, x, y, size)
        except (UserError, OSError):
            failed, self._reader = self._reader, open_reader(self._path)
            failed.close()
            return None
