"""RGB arrays as image files."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import UserError
from preprocess.base.files import atomic_path

Chroma = Literal["444", "420"]

RESULT_MARK = "mhkd: a result, not a slide"
"""In the JPEG comment, or under ``Software`` in the PNG, of every picture that is written, so that none is searched."""
_MARK_WITHIN_BYTES = 1 << 14
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = 33


def opencv_name(path: str | Path) -> Any:
    """``path`` as OpenCV takes it whatever is in it: it crashes over a str that is no text in UTF-8."""
    return os.fsencode(path)


def encode_image(rgb: NDArray[np.uint8], suffix: str, *, quality: int = 95, chroma: Chroma = "444") -> bytes:
    """uint8 RGB (h, w, 3) as the bytes of a ``.jpg`` or of a ``.png`` (lossless) file.

    ``quality`` (1 to 100) and ``chroma`` are for JPEG. By default colour is kept at full resolution, because
    half of a stain's signal is its colour; "420" halves it, and makes half the bytes in half the time. The file bears
    ``RESULT_MARK``.
    """
    if suffix == ".jpg":
        sampling = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{chroma}")
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    elif suffix == ".png":
        options = []
    else:
        raise UserError(f"cannot write images as {suffix or 'a file without suffix'!r}", remedy="use .png or .jpg")
    done, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise UserError(f"an image of {rgb.shape[1]} x {rgb.shape[0]} px does not fit into {suffix}")
    return _marked(data.tobytes())


def is_result(path: Path) -> bool:
    """Whether ``path`` is a picture that bears ``RESULT_MARK``. Raises OSError where it cannot be read."""
    with path.open("rb") as stream:
        head = stream.read(_MARK_WITHIN_BYTES)
    return head.startswith((_JPEG, _PNG)) and RESULT_MARK.encode() in head


def _marked(data: bytes) -> bytes:
    """The JPEG or PNG file ``data`` with ``RESULT_MARK`` behind its header."""
    mark = RESULT_MARK.encode()
    if data.startswith(_PNG):
        text = b"tEXtSoftware\0" + mark
        chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
        return data[:_PNG_HEADER_BYTES] + chunk + data[_PNG_HEADER_BYTES:]
    header_bytes = 4 + int.from_bytes(data[4:6], "big")  # JFIF, which comes first in every file of OpenCV's
    comment = b"\xff\xfe" + (len(mark) + 2).to_bytes(2, "big") + mark
    return data[:header_bytes] + comment + data[header_bytes:]


def write_image(path: str | Path, rgb: NDArray[np.uint8]) -> None:
    """Write uint8 RGB (h, w, 3) to a ``.jpg`` or ``.png`` file, atomically.

    The bytes are written here, because cv2.imwrite says only False where the disk is full.
    """
    data = encode_image(rgb, Path(path).suffix.lower())
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_thumbnail(bgr: NDArray[np.uint8], side_px: int) -> bytes:
    """uint8 BGR (h, w, 3), as OpenCV reads it, as a preview whose longer side is ``side_px`` or less."""
    height, width = bgr.shape[:2]
    scale = min(1.0, side_px / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
    return encode_preview(cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))


def encode_preview(rgb: NDArray[np.uint8]) -> bytes:
    """uint8 RGB (h, w, 3) as a small JPEG (quality 75, 4:2:0): to look at, not to measure."""
    return encode_image(rgb, ".jpg", quality=75, chroma="420")
