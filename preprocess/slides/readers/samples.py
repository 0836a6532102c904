"""What the samples of an image mean: which colours, how many bits, where the transparency is, which way up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC

from preprocess.base.errors import UserError
from preprocess.slides.readers.reader import Image, on_white

TO_RGB = "convert it to 8-bit RGB"
ORIENTATION = 274
_NUM_COLOURS = {
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.YCBCR: 3,
}
_JPEG = (6, 7)  # the compressions in which tifffile makes RGB of YCbCr
_ASSOCIATED, _STRAIGHT = 1, 2  # TIFF's ExtraSamples


@dataclass(frozen=True, eq=False)
class Samples:
    """How the samples of a TIFF's pixels become RGB.

    ``num`` are all of a pixel, its alpha included, which ``alpha`` (TIFF's ExtraSamples, 0: none) names. ``palette``
    (256, 3) has the colours of the values, if they are places in it; ``inverted`` is grey whose 0 is white.
    """

    num: int
    alpha: int = 0
    inverted: bool = False
    palette: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, page: Any, num_planes: int = 1) -> Samples:
        """Of a TIFF's page, or of ``num_planes`` of one colour each. Raises UserError for what is no RGB or grey."""
        photometric, extra = page.photometric, [int(one) for one in page.extrasamples]
        if page.dtype != np.uint8 or page.bitspersample != 8:
            raise UserError(
                f"a TIFF of {page.bitspersample}-bit {_KINDS.get(page.sampleformat, 'values')}", remedy=TO_RGB
            )
        if photometric not in _NUM_COLOURS or (photometric == PHOTOMETRIC.YCBCR and page.compression not in _JPEG):
            name = PHOTOMETRIC(photometric).name if photometric in iter(PHOTOMETRIC) else photometric
            raise UserError(f"a TIFF whose pixels are {_COLOURS.get(photometric, name)}", remedy=TO_RGB)
        if num_planes > 1:
            return cls(num_planes)
        num = page.samplesperpixel - _NUM_COLOURS[photometric]
        alpha = extra[0] if extra else 0
        if num not in (0, 1) or (num and alpha not in (_ASSOCIATED, _STRAIGHT)):
            raise UserError(
                f"a TIFF of {page.samplesperpixel} samples a pixel, the last of which is not said to be transparency",
                remedy=TO_RGB,
            )
        palette = page.colormap if photometric == PHOTOMETRIC.PALETTE else None
        if palette is not None:
            # Of 16 bits; some writers fill in 8.
            palette = (palette.T >> 8 if palette.max() > 255 else palette.T).astype(np.uint8)
        return cls(page.samplesperpixel, alpha if num else 0, photometric == PHOTOMETRIC.MINISWHITE, palette)

    @property
    def is_colour(self) -> bool:
        """Whether there is more than grey in them."""
        return self.palette is not None or self.num >= _NUM_COLOURS[PHOTOMETRIC.RGB]

    def to_rgb(self, pixels: Image) -> Image:
        """Pixels (h, w, num) as RGB (h, w, 3), on white where they are transparent."""
        colours, alpha = (pixels[..., :-1], pixels[..., -1:]) if self.alpha else (pixels, None)
        if self.inverted:
            colours = 255 - colours
        if self.palette is not None:
            colours = self.palette[colours[..., 0]]
        if colours.shape[2] == 1:
            colours = np.repeat(colours, 3, axis=2)
        if alpha is None:
            return np.ascontiguousarray(colours)
        if self.alpha == _STRAIGHT:
            return on_white(np.concatenate([colours, alpha], axis=2))
        return np.minimum(colours.astype(np.uint16) + (255 - alpha), 255).astype(np.uint8)


_KINDS = {2: "signed values", 3: "floats"}  # by TIFF's SampleFormat
_COLOURS = {
    PHOTOMETRIC.SEPARATED: "inks (CMYK)",
    PHOTOMETRIC.CIELAB: "CIELab",
    PHOTOMETRIC.ICCLAB: "ICCLab",
    PHOTOMETRIC.ITULAB: "ITULab",
    PHOTOMETRIC.YCBCR: "YCbCr outside of JPEG",
    PHOTOMETRIC.CFA: "a colour filter array",
}


def orientation_of(page: Any) -> int:
    """TIFF's Orientation: 1 is as stored, 2 to 8 want to be shown turned or mirrored."""
    value = page.tags.valueof(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def stored_as_is(orientation: int) -> tuple[str, ...]:
    """A remark on a file that wants to be turned or mirrored, which nobody who annotates it does."""
    return () if orientation == 1 else (f"read as stored: its orientation tag {orientation} is not followed",)


@dataclass(frozen=True)
class TiffFacts:
    """What OpenSlide does not see or show of a TIFF.

    ``is_ome``: that it is an OME-TIFF; ``not_plain``: why its pixels are meant otherwise than they would be shown, if
    so; ``hides``: pictures that are no levels of the first, or damage inside other compressions than JPEG.
    """

    is_ome: bool = False
    not_plain: UserError | None = None
    hides: bool = False


def tiff_facts(path: Path) -> TiffFacts:
    """What the tags of the TIFF ``path`` say; nothing where they cannot be read: whoever opens it is to say so."""
    status = path.stat()
    return _tiff_facts(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _tiff_facts(path: Path, num_bytes: int, modified_ns: int) -> TiffFacts:
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
            # Levels are tiled, but for those of NDPI, which are like their first; others are labels and the like.
            shown = [page for page in pages if page.is_tiled or page is pages[0]]
            has_more = any(page.is_tiled and not page.is_reduced for page in pages[1:])
            hides = has_more or not any(page.compression in _JPEG or _is_ycbcr(page) for page in shown)
            return TiffFacts(bool(tiff.is_ome), next(filter(None, map(_not_plain, shown)), None), hides)
    except Exception:  # damaged in one of many ways
        return TiffFacts()


def _not_plain(page: Any) -> UserError | None:
    """Why OpenSlide, through libtiff, does not give the pixels of ``page`` as they are stored and meant."""
    try:
        alpha = Samples.of(page).alpha
    except UserError as error:
        return None if _is_ycbcr(page) else error
    if orientation_of(page) != 1 or alpha:
        return UserError(f"a TIFF with {'transparency' if alpha else 'an orientation tag'}", remedy=TO_RGB)
    return None


def _is_ycbcr(page: Any) -> bool:
    """Whether libtiff makes RGB of the pixels of ``page`` and tifffile does not."""
    return bool(page.photometric == PHOTOMETRIC.YCBCR and page.bitspersample == 8 and not page.extrasamples)
