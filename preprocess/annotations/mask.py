"""Masks of a slide, as PNG or TIFF: 0 is background, other values are classes (8 bits) or objects (more)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from preprocess.annotations.annotation import Drawing, SlideFrame, scale_to
from preprocess.annotations.runs import drawings_of_mask
from preprocess.base.errors import UserError
from preprocess.base.geometry import Size

NAME = "mask"
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_PIXELS, _MAX_COLOUR_PIXELS = 1 << 31, 1 << 26
_COLOUR, _ONE_CHANNEL = "a colour image is no mask", "give one channel: 0 for background, numbers for objects"


def recognises(data: bytes) -> bool:
    """Whether ``data`` is a PNG or TIFF image."""
    return data.startswith((_PNG, *_TIFF))


def parse(data: bytes, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The objects of a mask that is as large as the slide or reduced by a whole factor."""
    try:
        mask, scale = (_read_png if data.startswith(_PNG) else _read_tiff)(io.BytesIO(data), slide)
    except UserError:
        raise
    except Exception as error:  # both libraries raise whatever a damaged file leads them to
        raise ValueError(f"{type(error).__name__}: {error}") from error
    yield from drawings_of_mask(_single(mask), scale)


def _read_png(stream: io.BytesIO, slide: SlideFrame | None) -> tuple[NDArray[Any], float]:
    # Not Image.open: its limit of pixels is a global that other readers rely on.
    with PngImageFile(stream) as image:
        scale = _scale(Size(*image.size), len(image.getbands()), slide)
        return np.asarray(image), scale


def _read_tiff(stream: io.BytesIO, slide: SlideFrame | None) -> tuple[NDArray[Any], float]:
    with tifffile.TiffFile(stream) as tiff:
        page = tiff.pages.first
        scale = _scale(Size(page.imagewidth, page.imagelength), page.samplesperpixel, slide)
        if page.is_tiled and page.tilewidth * page.tilelength > _MAX_COLOUR_PIXELS:
            raise UserError(f"it has tiles of {page.tilewidth} x {page.tilelength} px", remedy="save the mask again")
        return np.squeeze(page.asarray()), scale


def _scale(image: Size, channels: int, slide: SlideFrame | None) -> float:
    """How many level-0 pixels a pixel spans. UserError for what is not even to be decoded, such as a slide."""
    pixels = image.width * image.height
    if channels > 4 or (channels > 1 and pixels > _MAX_COLOUR_PIXELS):
        raise UserError(_COLOUR, remedy=_ONE_CHANNEL)
    if pixels > _MAX_PIXELS:
        raise UserError(f"a mask of {image.width} x {image.height} px is too large", remedy="reduce it by 4 or 8")
    return scale_to(slide, image)


def _single(image: NDArray[Any]) -> NDArray[Any]:
    """The one channel of a mask; colours are refused, equal channels are one."""
    if image.ndim == 3 and image.shape[2] in (2, 3, 4):
        colours = image[..., : image.shape[2] - 1 + image.shape[2] % 2]
        if (colours == colours[..., :1]).all():
            image = colours[..., 0]
    if image.ndim != 2:
        raise UserError(_COLOUR, remedy=_ONE_CHANNEL)
    if image.dtype == bool:
        return image.astype(np.uint8)
    if image.dtype.kind == "f" and not (np.isfinite(image).all() and (image == np.rint(image)).all()):
        raise UserError("its values are no whole numbers", remedy="give 0 for background and numbers for objects")
    return image.astype(np.int64) if image.dtype.kind == "f" else image
