"""Plain images (JPEG, PNG, TIFF, ...) as slides of one level, held in memory."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers.reader import Image, read_inside


class ImageReader:
    """An image that OpenCV decodes; see :class:`preprocess.slides.readers.reader.Reader`."""

    downsamples: tuple[float, ...] = (1.0,)

    def __init__(self, path: Path) -> None:
        # Annotations are drawn on the pixels as stored, so no EXIF rotation. Above 2**30 pixels OpenCV raises.
        try:
            pixels = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:
            pixels = None
        if pixels is None:
            raise UserError(
                "neither a slide that OpenSlide reads nor an image",
                path=path,
                remedy="check that the file is complete; images above 1 gigapixel must be pyramidal slides",
            )
        self._pixels: Image | None = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        self.size = Size(pixels.shape[1], pixels.shape[0])
        self.properties: dict[str, str] = {}

    def read(self, level: int, x: int, y: int, size: Size) -> Image:
        if self._pixels is None:
            raise ValueError("read from a closed image")
        pixels = self._pixels
        return read_inside(lambda x, y, part: pixels[y : y + part.height, x : x + part.width], self.size, x, y, size)

    def close(self) -> None:
        self._pixels = None
