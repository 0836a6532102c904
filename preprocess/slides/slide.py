"""A slide: where it is calibrated, and any region of it at any size."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PilImage

from preprocess.base.console import note
from preprocess.base.errors import UserError
from preprocess.base.files import safe_name
from preprocess.base.geometry import Region, Size, px_to_l0
from preprocess.slides.calibration import Calibration, calibrate
from preprocess.slides.files import UNREAD_SUFFIXES, check_file
from preprocess.slides.readers.image import ImageReader
from preprocess.slides.readers.ome_tiff import PlainTiffReader
from preprocess.slides.readers.openslide import GENERIC_TIFF, OpenSlideReader
from preprocess.slides.readers.reader import Image, Reader
from preprocess.slides.readers.samples import TiffFacts, tiff_facts
from preprocess.slides.readers.tiff import READER_VARIABLE, open_wsi

# A wanted down-sampling of 3.9999 may still use a level of 4: mpp are stated rounded.
_LEVEL_TOLERANCE = 1.0001
# How far beyond the region the filters look, in pixels of the output: bicubic reaches two from a pixel's middle.
_REACH = 1.5
# A larger region is read in bands, so that memory stays bounded: 24 MiB, and as much again for the filter.
_MAX_READ_PX = 1 << 23


class Slide:
    """An open slide. Use it as a context manager; it is cheap to open.

    All coordinates are level-0 pixels of the whole slide, also where the scanner left a part of it out:
    ``size`` is the whole slide, ``region`` what was scanned, ``properties`` what the header says, by OpenSlide's names.
    ``mpp_xy`` are the um per level-0 pixel along x and y, ``mpp`` their geometric mean; ``mpp_source`` says where they
    come from (the chain of :func:`preprocess.slides.calibration.calibrate`). A slide that does not say is refused,
    because a guess would scale every result. ``remarks`` are what a user should know of the file; opening says them.
    """

    def __init__(self, path: Path, reader: Reader, calibration: Calibration) -> None:
        self.path = path
        self.mpp = calibration.mpp
        self.mpp_xy = (calibration.mpp_x, calibration.mpp_y)
        self.mpp_source = calibration.source
        self.size = reader.size
        self.properties = reader.properties
        self.region = _scanned(reader.size, reader.properties)
        self.remarks = (*reader.remarks, *filter(None, [calibration.remark]))
        self._reader = reader

    @classmethod
    def open(cls, path: str | Path, mpp: float | None = None, *, fallback_mpp: float | None = None) -> Slide:
        """Open ``path``; ``mpp`` in um per level-0 pixel overrides what the slide says.

        ``fallback_mpp`` is for a slide that says nothing. Raises UserError if the file is missing or
        unreadable, or if its mpp is unknown or implausible.
        """
        path = Path(path)
        check_file(path)
        reader = open_reader(path)
        try:
            calibration = calibrate(path, reader.properties, mpp, fallback_mpp)
        except UserError:
            reader.close()
            raise
        slide = cls(path, reader, calibration)
        for remark in slide.remarks:
            _note_once(path, remark)
        return slide

    @property
    def name(self) -> str:
        """The file's stem, safe as the name of a file or folder."""
        return safe_name(self.path)

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height of ``region``, in micrometres."""
        return self.region.width * self.mpp_xy[0], self.region.height * self.mpp_xy[1]

    def wh_l0(self, size: Size, mpp: float) -> tuple[float, float]:
        """Width and height in level-0 pixels of what an image of ``size`` pixels of ``mpp`` um/px shows."""
        return px_to_l0(size.width, mpp, self.mpp_xy[0]), px_to_l0(size.height, mpp, self.mpp_xy[1])

    def read(self, region: Region, size: Size) -> Image:
        """``region`` as uint8 RGB (size.height, size.width, 3); white outside the slide.

        The pixels come from the coarsest level that is at least as fine as wanted. Down-scaling by a
        whole factor on whole pixels is the exact area average; any other placement goes through an
        anti-aliasing filter at sub-pixel precision.
        """
        scale_x, scale_y = region.width / size.width, region.height / size.height
        wanted_x, wanted_y = scale_x * _LEVEL_TOLERANCE, scale_y * _LEVEL_TOLERANCE
        factors = self._reader.downsamples
        level = max((i for i, (x, y) in enumerate(factors) if x <= wanted_x and y <= wanted_y), default=0)
        rows = max(1, int(_MAX_READ_PX * math.prod(factors[level]) / (region.width * scale_y)))
        if rows >= size.height:
            return self._read_at_once(level, region, size)
        image = np.empty((size.height, size.width, 3), np.uint8)
        for top in range(0, size.height, rows):
            part = Size(size.width, min(rows, size.height - top))
            place = Region(region.x, region.y + top * scale_y, region.width, part.height * scale_y)
            image[top : top + rows] = self._read_at_once(level, place, part)
        return image

    def _read_at_once(self, level: int, region: Region, size: Size) -> Image:
        box = np.array([region.x, region.y, region.x1, region.y1]) / (self._reader.downsamples[level] * 2)
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
        """``region`` as uint8 RGB with square pixels: its longer side ``max_side``, or less rather than enlarged."""
        width, height = (length / max(self.mpp_xy) for length in self.size_um)
        scale = min(1.0, max_side / max(width, height))
        return self.read(self.region, Size(max(1, round(width * scale)), max(1, round(height * scale))))

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def _note_once(path: Path, remark: str) -> None:
    """A slide is opened several times on the way to its results."""
    note(f"{path.name}: {remark}")


def open_reader(path: Path) -> Reader:
    """OpenSlide for what it knows; it would lose the levels of an OME-TIFF and knows no plain images.

    Nor does it say what the pixels of a TIFF mean, which pictures it leaves out, and where they are damaged: what it
    would show otherwise goes to tifffile, or is refused.
    """
    vendor = OpenSlideReader.format_of(path)
    is_tiff = PlainTiffReader.recognises(path)
    if not vendor and not is_tiff:
        if path.suffix.lower() in UNREAD_SUFFIXES:
            remedy = "convert it: docs/slides.md lists what is read"
            raise UserError("a format that is not read", path=path, remedy=remedy)
        return ImageReader(path)
    facts = tiff_facts(path) if is_tiff else TiffFacts()
    hides = facts.hides and os.environ.get(READER_VARIABLE) != "openslide"
    if not vendor or facts.is_ome or (vendor == GENERIC_TIFF and (hides or facts.not_plain)):
        return PlainTiffReader(path)
    reader = open_wsi(path)
    if facts.not_plain:
        reader.close()
        raise UserError(facts.not_plain.reason, path=path, remedy=facts.not_plain.remedy)
    return reader


def _scanned(size: Size, properties: Mapping[str, str]) -> Region:
    """The part of the slide that was scanned: ``openslide.bounds-*``, or all of it where they say nothing."""
    whole = Region(0, 0, size.width, size.height)
    try:
        x, y, width, height = (float(properties[f"openslide.bounds-{key}"]) for key in ("x", "y", "width", "height"))
        return Region(x, y, width, height).intersection(whole) or whole
    except (KeyError, ValueError):
        return whole


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
