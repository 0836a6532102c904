"""JPEG streams to pixels, with an error where libjpeg warns and goes on with grey, which other readers keep quiet."""

from __future__ import annotations

import simplejpeg

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers.reader import DAMAGED, Image

START = b"\xff\xd8"
_END = b"\xff\xd9"
# Adobe's marker says whether three components are RGB (0) or YCbCr (1).
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


def decode_jpeg(
    data: bytes, *, tables: bytes | None = None, stored_as: str = "", size: Size | None = None, grey: bool = False
) -> Image:
    """A JPEG as uint8 (h, w, 3) in RGB, or (h, w, 1) if ``grey``.

    Args:
        tables: a stream of the tables that ``data`` leaves out, as TIFF has it.
        stored_as: RGB or YCBCR, whatever the stream itself says; by default, what it says.
        size: what it must have: one that claims another is refused before it takes memory.

    Raises:
        UserError: the stream is damaged or not complete, without the path.
    """
    if not data.startswith(START):
        raise UserError("pixels not readable: a JPEG without a beginning", remedy=DAMAGED)
    rest = data[2:]
    while stored_as and rest[:1] == b"\xff" and 0xE0 <= rest[1] <= 0xEF:  # markers that say what it is by themselves
        rest = rest[2 + int.from_bytes(rest[2:4], "big") :]
    marker = _ADOBE + bytes([stored_as == "YCBCR"]) if stored_as else b""
    end = b"" if rest.rstrip(b"\0").endswith(_END) else _END  # some writers leave it out
    stream = b"".join((START, marker, tables[2:-2] if tables else b"", rest, end))
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(stream)
        if size is not None and (width, height) != (size.width, size.height):
            raise ValueError(f"a JPEG of {width} x {height} px in the place of {size.width} x {size.height} px")
        return simplejpeg.decode_jpeg(stream, "GRAY" if grey else "RGB")
    except ValueError as error:
        raise UserError(f"pixels not readable: {error}", remedy=DAMAGED) from error
