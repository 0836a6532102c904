"""Masks of a slide, as PNG, TIFF or JPEG: 0 is background, other values are classes (8 bits) or objects (more)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from preprocess.annotations.annotation import Drawing, SlideFrame, scale_to, unused
from preprocess.annotations.mask_values import border_share, drawings_of_values
from preprocess.base.errors import UserError
from preprocess.base.geometry import Size

NAME = "mask"
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LOSSY = {tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG}
_ORIENTATION = 274
# Pages that are at most so large are copies of the first, reduced.
_REDUCED = 0.75
_MAX_PIXELS, _MAX_COLOUR_PIXELS = 1 << 31, 1 << 26
_COLOUR, _ONE_CHANNEL = "a colour image is no mask", "give one channel: 0 for background, numbers for objects"


@dataclass(frozen=True)
class _Picture:
    """``samples`` (h, w) or (h, w, channels), whose pixels span ``scale`` level-0 pixels.

    With ``lossy`` values were changed to save them. ``num_regions`` were drawn beside the pixels.
    """

    samples: NDArray[Any]
    scale: float
    lossy: bool
    num_regions: int = 0


def recognises(data: bytes) -> bool:
    """Whether ``data`` is a PNG, JPEG or TIFF image."""
    return data.startswith((_PNG, _JPEG, *_TIFF))


def parse(data: bytes, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The objects of a mask that is as large as the slide or reduced by a whole factor."""
    try:
        picture = (_read_tiff if data.startswith(_TIFF) else _read_picture)(io.BytesIO(data), slide)
    except UserError:
        raise
    except Exception as error:  # both libraries raise whatever a damaged file leads them to
        raise ValueError(f"{type(error).__name__}: {error}") from error
    yield from drawings_of_values(_single(picture.samples), picture.scale, picture.lossy)
    yield from (unused("region of ImageJ in a TIFF") for _ in range(picture.num_regions))


def _read_picture(stream: io.BytesIO, slide: SlideFrame | None) -> _Picture:
    # Not Image.open: its limit of pixels is a global that other readers rely on.
    with (PngImageFile if stream.getvalue().startswith(_PNG) else JpegImageFile)(stream) as image:
        scale = _scale(Size(*image.size), len(image.getbands()), slide)
        _check_upright(image.getexif().get(_ORIENTATION))
        return _Picture(np.asarray(image), scale, isinstance(image, JpegImageFile))


def _read_tiff(stream: io.BytesIO, slide: SlideFrame | None) -> _Picture:
    with tifffile.TiffFile(stream) as tiff:
        page = tiff.pages.first
        size = Size(page.imagewidth, page.imagelength)
        scale = _scale(size, page.samplesperpixel, slide)
        if page.samplesperpixel in (2, 4) and not set(page.extrasamples) & {1, 2}:
            raise UserError(_COLOUR, remedy=_ONE_CHANNEL)  # the last one is no alpha
        _check_upright(page.tags.valueof(_ORIENTATION))
        pages = sum(one.imagewidth > _REDUCED * size.width for one in tiff.pages)
        if planes := max(pages, tiff.series[0].size // page.size) - 1:
            raise UserError(
                f"it has {planes} more pages of about its size", remedy="save the one with the objects alone"
            )
        if page.is_tiled and page.tilewidth * page.tilelength > _MAX_COLOUR_PIXELS:
            raise UserError(f"it has tiles of {page.tilewidth} x {page.tilelength} px", remedy="save the mask again")
        mask = page.asarray()
        mask = np.squeeze(np.moveaxis(mask, 0, -1) if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else mask)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and mask.ndim == 2 and border_share(mask > 0) > 0.5:
            mask = (mask.max() - mask) if mask.dtype != bool else ~mask  # 0 is what is shown white: the objects
        drawn = tiff.imagej_metadata or {}
        num_regions = len(drawn.get("Overlays") or ()) + ("ROI" in drawn)
        return _Picture(mask, scale, page.compression in _LOSSY, num_regions)


def _check_upright(orientation: int | None) -> None:
    if orientation not in (None, 0, 1):
        raise UserError("its Orientation tag turns or mirrors it", remedy="save it upright")


def _scale(image: Size, channels: int, slide: SlideFrame | None) -> float:
    """How many level-0 pixels a pixel spans. UserError for what is not even to be decoded, such as a slide."""
    pixels = image.width * image.height
    if channels > 4 or (channels > 1 and pixels > _MAX_COLOUR_PIXELS):
        raise UserError(_COLOUR, remedy=_ONE_CHANNEL)
    if pixels > _MAX_PIXELS:
        raise UserError(f"a mask of {image.width} x {image.height} px is too large", remedy="reduce it by 4 or 8")
    return scale_to(slide, image)


def _single(image: NDArray[Any]) -> NDArray[Any]:
    """The one channel of a mask; colours are refused, equal channels are one, and what is transparent is background."""
    if image.ndim == 3 and image.shape[2] in (2, 3, 4):
        colours = image[..., : image.shape[2] - 1 + image.shape[2] % 2]
        alpha = image[..., -1] if image.shape[2] in (2, 4) else None
        seen = np.ones(image.shape[:2], bool) if alpha is None else alpha > 0
        if not seen.any() and colours.any():
            raise UserError("all of it is transparent", remedy=_ONE_CHANNEL)
        if (colours[seen] == colours[seen][:1]).all() and alpha is not None and not seen.all():
            image = alpha  # one colour on nothing
        elif (colours == colours[..., :1]).all() or (colours[seen] == colours[seen][:, :1]).all():
            image = np.where(seen, colours[..., 0], 0)
    if image.ndim != 2:
        raise UserError(_COLOUR, remedy=_ONE_CHANNEL)
    if image.dtype == bool:
        return image.astype(np.uint8)
    if image.dtype.kind == "f" and not (np.isfinite(image).all() and (image == np.rint(image)).all()):
        raise UserError("its values are no whole numbers", remedy="give 0 for background and numbers for objects")
    return image.astype(np.int64) if image.dtype.kind == "f" else image
