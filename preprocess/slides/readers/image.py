"""Plain images (JPEG, PNG, TIFF, ...) as slides of one level, held in memory."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL.ImageFile import ImageFile

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers.jpeg import START, decode_jpeg
from preprocess.slides.readers.reader import DAMAGED, Factors, Image, on_white, read_inside
from preprocess.slides.readers.samples import ORIENTATION, TO_RGB, stored_as_is

# Its pixels are OpenCV's to decode, which has a limit of its own: above 2**30 it raises.
PilImage.MAX_IMAGE_PIXELS = None
# It also prints what is then raised.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# Formats whose decoders go on where half of the file was never written, and that do not end in zeros.
_UNCHECKED, _END_BYTES = ("WEBP", "JPEG2000"), 64
_NO_RGB = {"CMYK": "inks (CMYK)", "1": "one bit each", "LAB": "CIELab", "F": "floats", "I": "32-bit values"}


class ImageReader:
    """An image that OpenCV decodes; see :class:`preprocess.slides.readers.reader.Reader`.

    Annotations are drawn on the pixels as stored, so an EXIF orientation is not followed, but remarked on.
    """

    downsamples: tuple[Factors, ...] = ((1.0, 1.0),)

    def __init__(self, path: Path) -> None:
        data = np.fromfile(path, dtype=np.uint8)
        try:
            header = _header(data)
            orientation = _check(header, data) if header else 1
            self._pixels: Image | None = _to_rgb(_decode(data, header))
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


def _header(data: NDArray[np.uint8]) -> ImageFile | None:
    """What Pillow knows of an image without decoding it."""
    try:
        return PilImage.open(io.BytesIO(data.tobytes()))
    except Exception:  # what Pillow does not know OpenCV may
        return None


def _check(header: ImageFile, data: NDArray[np.uint8]) -> int:
    """The EXIF orientation of an image; UserError where it is no picture in RGB or grey, or ends early."""
    form = header.format
    try:
        num_pictures = getattr(header, "n_frames", 1)
        orientation = int(header.getexif().get(ORIENTATION, 1))
        if form == "PNG":
            PilImage.open(io.BytesIO(data.tobytes())).verify()  # the checksums, over which libpng prints lines
    except Exception as error:
        raise UserError(f"a {form} that is not readable: {error}", remedy=DAMAGED) from error
    if num_pictures > 1 and form != "MPO":  # a camera's preview is no second picture
        raise UserError(f"an image of {num_pictures} pictures", remedy="save the one that is meant by itself")
    if header.mode in _NO_RGB:
        raise UserError(f"an image whose pixels are {_NO_RGB[header.mode]}", remedy=TO_RGB)
    if form == "PPM" and isinstance(header.tile[0].args, tuple):  # OpenCV takes them as they are
        raise UserError("an image whose largest value is not 255", remedy=TO_RGB)
    if form in _UNCHECKED and not data[-_END_BYTES:].any():
        raise UserError(f"a {form} that ends in zeros", remedy=DAMAGED)
    return orientation


def _decode(data: NDArray[np.uint8], header: ImageFile | None) -> NDArray[np.generic]:
    """The pixels (h, w) or (h, w, channels) as they are stored, in OpenCV's order."""
    if data[:2].tobytes() == START:
        return decode_jpeg(data.tobytes())[..., ::-1]
    try:
        if header and header.mode in ("L", "P") and "transparency" in header.info:  # of grey, OpenCV does not read it
            return np.asarray(header.convert("RGBA"))[..., [2, 1, 0, 3]]
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except (cv2.error, OSError, ValueError):
        pixels = None
    if pixels is None and header:
        raise UserError(f"a {header.format} whose pixels are not readable", remedy="export it again, as PNG or TIFF")
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
