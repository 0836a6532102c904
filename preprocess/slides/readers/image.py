"""Plain images (JPEG, PNG, TIFF, ...) as slides of one level, held in memory."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers.jpeg import START, decode_jpeg
from preprocess.slides.readers.reader import Factors, Image, on_white, read_inside
from preprocess.slides.readers.samples import ORIENTATION, TO_RGB, stored_as_is

# Its pixels are OpenCV's to decode, which has a limit of its own: above 2**30 it raises.
PilImage.MAX_IMAGE_PIXELS = None
_NO_RGB = {"CMYK": "inks (CMYK)", "1": "one bit each", "LAB": "CIELab", "F": "floats", "I": "32-bit values"}


class ImageReader:
    """An image that OpenCV decodes; see :class:`preprocess.slides.readers.reader.Reader`.

    Annotations are drawn on the pixels as stored, so an EXIF orientation is not followed, but remarked on.
    """

    downsamples: tuple[Factors, ...] = ((1.0, 1.0),)

    def __init__(self, path: Path) -> None:
        data = np.fromfile(path, dtype=np.uint8)
        try:
            orientation = _check_header(data)
            self._pixels: Image | None = _to_rgb(_decode(data))
        except UserError as error:
            raise UserError(error.reason, path=path, remedy=error.remedy) from None
        self.remarks = stored_as_is(orientation)
        self.size = Size(self._pixels.shape[1], self._pixels.shape[0])
        self.tiles = (self.size,)
        self.properties: dict[str, str] = {}

    def read(self, level: int, x: int, y: int, size: Size) -> Image:
        if self._pixels is None:
            raise ValueError("read from a closed image")
        pixels = self._pixels
        return read_inside(lambda x, y, part: pixels[y : y + part.height, x : x + part.width], self.size, x, y, size)

    def close(self) -> None:
        self._pixels = None


def _check_header(data: NDArray[np.uint8]) -> int:
    """The EXIF orientation of an image; UserError where its header says that it is no picture in RGB or grey."""
    try:
        with PilImage.open(io.BytesIO(data.tobytes())) as header:
            mode, num_pictures = header.mode, getattr(header, "n_frames", 1)
            is_stack = num_pictures > 1 and header.format != "MPO"  # a camera's preview is no second picture
            orientation = int(header.getexif().get(ORIENTATION, 1))
    except Exception:  # what Pillow does not know OpenCV may
        return 1
    if is_stack:
        raise UserError(f"an image of {num_pictures} pictures", remedy="save the one that is meant by itself")
    if mode in _NO_RGB:
        raise UserError(f"an image whose pixels are {_NO_RGB[mode]}", remedy=TO_RGB)
    return orientation


def _decode(data: NDArray[np.uint8]) -> NDArray[np.generic]:
    """The pixels (h, w) or (h, w, channels) as they are stored, in OpenCV's order."""
    if data[:2].tobytes() == START:
        return decode_jpeg(data.tobytes())[..., ::-1]
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise UserError(
            "neither a slide that OpenSlide reads nor an image",
            remedy="check that the file is complete; images above 1 gigapixel must be pyramidal slides",
        )
    return pixels


def _to_rgb(pixels: NDArray[np.generic]) -> Image:
    """Stored pixels as uint8 RGB (h, w, 3), on white where they are transparent."""
    if pixels.dtype != np.uint8:
        raise UserError(f"an image of {8 * pixels.itemsize}-bit values", remedy=TO_RGB)
    stored = pixels.astype(np.uint8, copy=False)
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    if channels == 4:
        return on_white(cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA).astype(np.uint8, copy=False))
    if channels not in (1, 3):
        raise UserError(f"an image of {channels} samples a pixel", remedy=TO_RGB)
    code = cv2.COLOR_GRAY2RGB if channels == 1 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(stored, code).astype(np.uint8, copy=False)
