"""A slide: where it is calibrated, and any region of it at any size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from PIL import Image as PilImage

from preprocess.errors import UserError
from preprocess.files import safe_name
from preprocess.geometry import MAX_MPP, MIN_MPP, Region, Size, is_plausible_mpp
from preprocess.readers.image import ImageReader
from preprocess.readers.openslide import OpenSlideReader
from preprocess.readers.reader import Image, Reader
from preprocess.readers.tiff import open_wsi

_MAX_ANISOTROPY = 0.01
_TIFF_UNIT_UM = {"centimeter": 10_000.0, "inch": 25_400.0}
_MPP_REMEDY = "state it in um/px: the column mpp of the slides table, or the option --mpp where there is one"

# A wanted down-sampling of 3.9999 may still use a level of 4: mpp are stated rounded.
_LEVEL_TOLERANCE = 1.0001
# How far beyond the region the filters look, in pixels of the output: bicubic reaches two from a pixel's middle.
_REACH = 1.5
# A larger region is read in bands, so that memory stays bounded: 24 MiB, and as much again for the filter.
_MAX_READ_PX = 1 << 23


class Slide:
    """An open slide. Use it as a context manager; it is cheap to open.

    ``mpp`` (um per level-0 pixel) comes from the first of these that gives a plausible value
    (0.05 to 40), and ``mpp_source`` says which:

    1. the value given to :meth:`open`;
    2. the slide's own ``openslide.mpp-x`` and ``openslide.mpp-y``;
    3. the TIFF resolution tags, as OpenSlide reports them;
    4. the objective power: 10 / power um/px, an estimate.

    A slide with none of them is refused, because a guess would scale every result.
    """

    def __init__(self, path: Path, reader: Reader, mpp: float, mpp_source: str) -> None:
        self.path = path
        self.mpp = mpp
        self.mpp_source = mpp_source
        self.size = reader.size
        self._reader = reader

    @classmethod
    def open(cls, path: str | Path, mpp: float | None = None) -> Slide:
        """Open ``path``; ``mpp`` in um per level-0 pixel overrides what the slide says.

        Raises UserError if the file is missing or unreadable, or if its mpp is unknown or implausible.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError("no such slide", path=path, remedy="check the path")
        reader: Reader = open_wsi(path) if OpenSlideReader.recognises(path) else ImageReader(path)
        try:
            value, source = _given_mpp(path, mpp) if mpp is not None else _own_mpp(path, reader.properties)
        except UserError:
            reader.close()
            raise
        return cls(path, reader, value, source)

    @property
    def name(self) -> str:
        """The file's stem, safe as the name of a file or folder."""
        return safe_name(self.path)

    @property
    def region(self) -> Region:
        """The whole slide."""
        return Region(0, 0, self.size.width, self.size.height)

    def read(self, region: Region, size: Size) -> Image:
        """``region`` as uint8 RGB (size.height, size.width, 3); white outside the slide.

        The pixels come from the coarsest level that is at least as fine as wanted. Down-scaling by a
        whole factor on whole pixels is the exact area average; any other placement goes through an
        anti-aliasing filter at sub-pixel precision.
        """
        scale_x, scale_y = region.width / size.width, region.height / size.height
        wanted = min(scale_x, scale_y) * _LEVEL_TOLERANCE
        level = max((i for i, d in enumerate(self._reader.downsamples) if d <= wanted), default=0)
        rows = max(1, int(_MAX_READ_PX * self._reader.downsamples[level] ** 2 / (region.width * scale_y)))
        if rows >= size.height:
            return self._read_at_once(level, region, size)
        image = np.empty((size.height, size.width, 3), np.uint8)
        for top in range(0, size.height, rows):
            part = Size(size.width, min(rows, size.height - top))
            place = Region(region.x, region.y + top * scale_y, region.width, part.height * scale_y)
            image[top : top + rows] = self._read_at_once(level, place, part)
        return image

    def _read_at_once(self, level: int, region: Region, size: Size) -> Image:
        downsample = self._reader.downsamples[level]
        box = np.array([region.x, region.y, region.x1, region.y1]) / downsample
        left, top, right, bottom = np.rint(box).astype(int).tolist()
        width, height = right - left, bottom - top
        if np.abs(box - np.rint(box)).max() < 1e-6 and width % size.width == 0 and height % size.height == 0:
            return _average(self._reader.read(level, left, top, Size(width, height)), size)
        factors = ((box[2] - box[0]) / size.width, (box[3] - box[1]) / size.height)
        margin = math.ceil(_REACH * max(1, *factors))
        left, top = (math.floor(edge) - margin for edge in box[:2])
        right, bottom = (math.ceil(edge) + margin for edge in box[2:])
        pixels = self._reader.read(level, left, top, Size(right - left, bottom - top))
        return _filter(pixels, (box[0] - left, box[1] - top, box[2] - left, box[3] - top), size, min(factors))

    def thumbnail(self, max_side: int) -> Image:
        """The whole slide as uint8 RGB, its longer side ``max_side`` pixels or the slide's own, if that is less."""
        scale = min(1.0, max_side / max(self.size.width, self.size.height))
        size = Size(max(1, round(self.size.width * scale)), max(1, round(self.size.height * scale)))
        return self.read(self.region, size)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _given_mpp(path: Path, mpp: float) -> tuple[float, str]:
    if not is_plausible_mpp(mpp):
        raise UserError(
            f"the given mpp {mpp:g} is outside {MIN_MPP:g} to {MAX_MPP:g} um/px",
            path=path,
            remedy="give micrometres per level-0 pixel, such as 0.25 or 0.5",
        )
    return float(mpp), "given"


def _own_mpp(path: Path, properties: Mapping[str, str]) -> tuple[float, str]:
    """The slide's own mpp and where it comes from; UserError where there is none."""
    implausible = []
    unit_um = _TIFF_UNIT_UM.get(properties.get("tiff.ResolutionUnit", ""), math.nan)
    candidates = {
        "slide property openslide.mpp-x/y": [_number(properties, f"openslide.mpp-{axis}") for axis in "xy"],
        "TIFF resolution tags": [unit_um / _number(properties, f"tiff.{axis}Resolution") for axis in "XY"],
        "objective power (estimate)": [10 / _number(properties, "openslide.objective-power")] * 2,
    }
    for source, (mpp_x, mpp_y) in candidates.items():
        if math.isnan(mpp_x) or math.isnan(mpp_y):
            continue
        if not (is_plausible_mpp(mpp_x) and is_plausible_mpp(mpp_y)):
            implausible.append(f"{source}: {mpp_x:g}")
            continue
        if abs(mpp_x - mpp_y) > _MAX_ANISOTROPY * max(mpp_x, mpp_y):
            raise UserError(
                f"pixels are not square: {mpp_x:g} by {mpp_y:g} um",
                path=path,
                remedy="resample the slide, or state one mpp if the file is wrong",
            )
        return (mpp_x + mpp_y) / 2, source
    found = f" (implausible: {', '.join(implausible)})" if implausible else ""
    raise UserError(f"the slide does not say its mpp{found}", path=path, remedy=_MPP_REMEDY)


def _number(properties: Mapping[str, str], key: str) -> float:
    """A positive number from the properties, or NaN."""
    try:
        value = float(properties.get(key, "nan"))
    except ValueError:
        return math.nan
    return value if value > 0 else math.nan


def _average(pixels: Image, size: Size) -> Image:
    """The means of whole blocks of ``pixels`` as an image of ``size``."""
    if pixels.shape[:2] == (size.height, size.width):
        return np.ascontiguousarray(pixels)
    return cv2.resize(pixels, (size.width, size.height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _filter(pixels: Image, box: tuple[float, float, float, float], size: Size, factor: float) -> Image:
    """``box`` (x0, y0, x1, y1 in ``pixels``, float) as an image of ``size``, ``factor`` times smaller."""
    # Hamming has the reach of the area average without its half-pixel jumps at fractional factors, but
    # near factor 1 it snaps to whole pixels, up to a third of a pixel off; bicubic does not.
    kernel = PilImage.Resampling.HAMMING if factor >= 2 else PilImage.Resampling.BICUBIC
    resized = PilImage.fromarray(pixels).resize((size.width, size.height), kernel, box=box)
    return np.array(resized)
