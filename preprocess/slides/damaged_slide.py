"""A slide with unreadable places: what can be read is, and the rest is white and on record."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides.calibration import Calibration
from preprocess.slides.readers.reader import Image, Reader
from preprocess.slides.slide import Slide, open_reader

_MIN_SIDE_PX = 16
"""An unreadable place is narrowed down to parts of this side, in the pixels of the image that was asked for."""
_FINER, _MAX_SIDE_PX = 4, 2048


class DamagedSlide(Slide):
    """A :class:`preprocess.slides.slide.Slide` that goes on where pixels cannot be read.

    Safe to use from several threads, as the slide is. Raises UserError where the slide as a whole cannot be opened any
    more, such as one that has vanished.
    """

    def __init__(self, path: Path, reader: Reader, calibration: Calibration) -> None:
        super().__init__(path, reader, calibration)
        self._lock = threading.RLock()
        self._unreadable: set[tuple[float, float, float, float]] = set()

    @property
    def unreadable_l0(self) -> np.ndarray:
        """What was asked for and is white for this reason: (M, 4) xyxy, level-0 px, from top to bottom; may overlap."""
        with self._lock:
            places = sorted(self._unreadable, key=lambda box: (box[1], box[0], box[3], box[2]))
        return np.array(places, dtype=np.float64).reshape(-1, 4)

    def read(self, region: Region, size: Size) -> Image:
        """As :meth:`Slide.read`, white where the file cannot be read."""
        with self._lock:  # a reader that failed is closed, and no one else may be using it
            return self._read_parts(region, size)

    def _read_parts(self, region: Region, size: Size) -> Image:
        try:
            return super().read(region, size)
        except (UserError, OSError):
            self._reopen()
        finer = self._from_finer_level(region, size)
        if finer is not None:
            return finer
        if max(size.width, size.height) <= _MIN_SIDE_PX:
            inside = region.intersection(self.region)
            if inside is not None:
                self._unreadable.add((inside.x, inside.y, inside.x1, inside.y1))
            return np.full((size.height, size.width, 3), 255, np.uint8)
        image = np.empty((size.height, size.width, 3), np.uint8)
        for rows in _halves(size.height):
            for columns in _halves(size.width):
                part = Size(columns.stop - columns.start, rows.stop - rows.start)
                box = region.to_l0([[columns.start, rows.start, columns.stop, rows.stop]], size)[0]
                place = Region(box[0], box[1], box[2] - box[0], box[3] - box[1])
                image[rows, columns] = self._read_parts(place, part)
        return image

    def _from_finer_level(self, region: Region, size: Size) -> Image | None:
        """The same place made from more pixels than asked for: a coarse level may be damaged and a finer one not."""
        factor = _FINER
        scale, side_px = max(region.width / size.width, region.height / size.height), max(size.width, size.height)
        while scale >= factor and (side_px * factor <= _MAX_SIDE_PX or side_px <= _MIN_SIDE_PX):
            try:
                pixels = super().read(region, Size(size.width * factor, size.height * factor))
                return cv2.resize(pixels, (size.width, size.height), interpolation=cv2.INTER_AREA)
            except (UserError, OSError):
                self._reopen()
            factor *= _FINER
        return None

    def _reopen(self) -> None:
        """Another reader in the place of the one that failed: OpenSlide's refuses everything after its first error."""
        failed, self._reader = self._reader, open_reader(self.path)
        failed.close()


def _halves(length: int) -> list[slice]:
    if length <= _MIN_SIDE_PX:
        return [slice(0, length)]
    return [slice(0, length // 2), slice(length // 2, length)]
