"""TIFFs that OpenSlide does not read as they are meant: OME-TIFF with its levels, those not tiled, and odd ones."""

from __future__ import annotations

import logging
import math
import re
from functools import lru_cache
from pathlib import Path
from struct import unpack
from typing import Any

import numpy as np
import tifffile

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size, is_plausible_mpp
from preprocess.slides.readers.jpeg import decode_jpeg
from preprocess.slides.readers.ome_xml import OmeImage, read_ome_xml
from preprocess.slides.readers.reader import DAMAGED, Image, level_factors, paste, read_inside, tiles_under
from preprocess.slides.readers.samples import TO_RGB, Samples, orientation_of, stored_as_is

# It logs what it then also raises, or what is checked here.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CACHE_BYTES = 64 << 20
_ENDS_EARLY = "a TIFF that ends early, or lists the wrong number of tiles"
_JPEG, _STORED_AS = 7, {2: "RGB", 6: "YCBCR"}
_TIFF_UNIT = {2: "inch", 3: "centimeter"}
# At the end of a name: "label-free 3" is one of a slide.
_NO_SLIDE = re.compile(r"(?<![a-z])(macro|label|thumbnail|overview|barcode)([\W_]*image)?[\W\d_]*$", re.IGNORECASE)
# The names of three grey planes that are one colour image.
_RGB_CHANNELS = [["red", "green", "blue"], ["r", "g", "b"]]
# Images whose um/px differ by less are of one resolution, and the larger one is the slide.
_SAME_MPP = 1.05
_MACRO = 4


class PlainTiffReader:
    """One image of a TIFF that tifffile reads; see :class:`preprocess.slides.readers.reader.Reader`.

    Of several, the colour one with the finest pixels, and of these the largest; what is left out is remarked on. A
    macro, label or thumbnail, as OME-XML names it, is no slide. 8-bit grey, palette, RGB, with transparency or without,
    interleaved, in planes or in three pages called red, green and blue. Only the tiles or strips under a request are
    decoded, and the last 64 MB of them are kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._tiff = tifffile.TiffFile(path)
        except Exception as error:  # a damaged file trips tifffile in any way
            raise UserError(f"not readable as a TIFF: {error}", path=path, remedy=DAMAGED) from error
        try:
            if not _is_complete(self._tiff):
                raise UserError(_ENDS_EARLY, remedy=DAMAGED)
            self._tiff.filehandle.set_lock(True)
            chosen, left_out = _choose(self._tiff)
            self._levels = chosen.levels
            self.properties = chosen.properties()
            self.remarks = (*left_out, *stored_as_is(orientation_of(chosen.page)))
        except UserError as error:
            self._tiff.close()
            raise UserError(error.reason, path=path, remedy=error.remedy) from None
        except Exception as error:
            self._tiff.close()
            raise UserError(f"not readable as a TIFF: {error}", path=path, remedy=DAMAGED) from error
        self.size = self._levels[0].size
        self.downsamples = tuple(level_factors(self.size, level.size) for level in self._levels)
        self.tiles = tuple(level.segment for level in self._levels)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the file is a TIFF."""
        with path.open("rb") as stream:
            return stream.read(4) in _MAGIC

    def read(self, level: int, x: int, y: int, size: Size) -> Image:
        def read(x: int, y: int, part: Size) -> Image:
            try:
                return self._levels[level].read(x, y, part)
            except UserError as error:
                raise UserError(error.reason, path=self._path, remedy=error.remedy) from error
            except Exception as error:  # whatever the codec raises
                raise UserError(f"pixels not readable: {error}", path=self._path, remedy=DAMAGED) from error

        return read_inside(read, self._levels[level].size, x, y, size)

    def close(self) -> None:
        self._tiff.close()


class _NoSlideError(UserError):
    """An image that is a macro, a label or a thumbnail."""


class _TiffImage:
    """One image of a TIFF with its levels, and what OME-XML says of it. Raises UserError where it is no slide."""

    def __init__(self, series: Any, ome: OmeImage | None) -> None:
        self.page = series.keyframe
        self._ome = ome
        if ome is not None and _NO_SLIDE.search(ome.name):
            raise _NoSlideError(f"a TIFF of an image called {ome.name!r}", remedy="name the file that has the slide")
        self.levels = [_Level(level, ome.channels if ome else ()) for level in series.levels]

    @property
    def rank(self) -> tuple[bool, float, int]:
        """Colour before grey, fine before coarse, large before small."""
        mpp = math.sqrt(math.prod(self._ome.mpp_xy)) if self._ome else math.nan
        step = round(math.log(mpp, _SAME_MPP)) if is_plausible_mpp(mpp) else math.inf
        return not self.levels[0].is_colour, step, -self.levels[0].size.width * self.levels[0].size.height

    def properties(self) -> dict[str, str]:
        """What the file says about the image, under OpenSlide's names."""
        found = dict(self._ome.properties) if self._ome else {}
        tags = self.page.tags
        for name in ("XResolution", "YResolution"):
            value = tags.valueof(name)
            if isinstance(value, tuple) and value[1]:
                found[f"tiff.{name}"] = str(value[0] / value[1])
        found["tiff.ResolutionUnit"] = _TIFF_UNIT.get(tags.valueof("ResolutionUnit", 2), "none")
        if not self._ome:
            found["tiff.ImageDescription"] = self.page.description
        return found


def _choose(tiff: Any) -> tuple[_TiffImage, list[str]]:
    """The image that is the slide, and a remark on the others. Raises UserError where there is none."""
    described = iter(read_ome_xml(tiff.ome_metadata) if tiff.is_ome else [])
    found: dict[str, _TiffImage] = {}
    refused: dict[str, UserError] = {}
    areas: dict[str, int] = {}
    for number, series in enumerate(tiff.series):
        page = series.keyframe
        if number and page.is_reduced:
            continue
        # OME-XML has them in the same order, and others without pixels between them.
        ome = next((one for one in described if one.wh == (page.imagewidth, page.imagelength)), None)
        name = " ".join(f"{number} {ome.name if ome else ''} ({page.imagewidth} x {page.imagelength} px)".split())
        areas[name] = page.imagewidth * page.imagelength
        try:
            found[name] = _TiffImage(series, ome)
        except UserError as error:
            refused[name] = error
    best = min(found, key=lambda name: found[name].rank, default="")
    largest = max(refused, key=lambda name: areas[name], default="")
    # What is left beside a much larger image that is no bright field is its macro.
    if not best or (
        largest and areas[largest] > _MACRO * areas[best] and not isinstance(refused[largest], _NoSlideError)
    ):
        raise refused[largest]
    others = [f"image {name}" for name in areas if name != best]
    return found[best], [f"image {best} is read, and {', '.join(others)} left out"] if others else []


class _Level:
    """One level: its page, or its three pages of one colour each, called by ``channels``."""

    def __init__(self, series: Any, channels: tuple[str, ...]) -> None:
        page = series.keyframe
        self._pages: list[Any] = list(series.pages)
        if None in self._pages:
            raise UserError("files of this OME-TIFF are missing", remedy="put all that it consists of into one folder")
        separate, depth, height, width, contiguous = page.shaped
        is_rgb = (
            len(self._pages) == 3
            and separate * contiguous == 1
            and [name.lower() for name in channels] in _RGB_CHANNELS
        )
        if depth > 1 or (len(self._pages) > 1 and not is_rgb):
            names = f": {', '.join(filter(None, channels))}" if any(channels) else ""
            raise UserError(f"a TIFF of {len(self._pages) * depth} planes ({series.axes}{names})", remedy=TO_RGB)
        if page.compression not in tifffile.TIFF.DECOMPRESSORS:
            raise UserError(f"a TIFF with the compression {int(page.compression)}, which is not known", remedy=TO_RGB)
        self._samples = Samples.of(page, len(self._pages))
        self.is_colour = self._samples.is_colour
        self.size = Size(width, height)
        segment = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
        self.segment = Size(segment[1], min(segment[0], height))
        self._rows, self._columns = -(-height // self.segment.height), -(-width // self.segment.width)
        for one in self._pages:
            ends = [o + n for o, n in zip(one.dataoffsets, one.databytecounts, strict=True)]
            if len(ends) != separate * self._rows * self._columns or max(ends) > one.parent.filehandle.size:
                raise UserError(_ENDS_EARLY, remedy=DAMAGED)
        num_bytes = self.segment.width * self.segment.height * contiguous
        self._decoded = lru_cache(max(1, _CACHE_BYTES // num_bytes))(self._decode)

    def read(self, x: int, y: int, size: Size) -> Image:
        """The pixels of a rectangle inside the level, as uint8 RGB."""
        parts = [
            self._read_plane(number, plane, x, y, size)
            for number, page in enumerate(self._pages)
            for plane in range(page.keyframe.shaped[0])
        ]
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        return self._samples.to_rgb(pixels)

    def _read_plane(self, page: int, plane: int, x: int, y: int, size: Size) -> Image:
        """The samples (h, w, s) of one plane, white where a tile was never written."""
        part = np.full((size.height, size.width, self._pages[page].keyframe.shaped[-1]), 255, np.uint8)
        for row, column in tiles_under(x, y, size, self.segment):
            pixels = self._decoded(page, (plane * self._rows + row) * self._columns + column)
            if pixels is not None:
                paste(part, pixels, column * self.segment.width - x, row * self.segment.height - y)
        return part

    def _decode(self, page: int, index: int) -> Image | None:
        """One tile or strip, (h, w, samples)."""
        frame = self._pages[page]
        handle = frame.parent.filehandle
        options: dict[str, Any] = {"_fullsize": False}
        if frame.jpegtables is not None:
            options["jpegtables"] = frame.jpegtables
        if frame.keyframe.jpegheader is not None:
            options["jpegheader"] = frame.keyframe.jpegheader
        ((data, _),) = handle.read_segments([frame.dataoffsets[index]], [frame.databytecounts[index]], lock=handle.lock)
        if data is not None and frame.keyframe.compression == _JPEG and frame.keyframe.jpegheader is None:
            stored_as = _STORED_AS.get(frame.keyframe.photometric, "")
            return decode_jpeg(data, tables=frame.jpegtables, stored_as=stored_as, grey=frame.keyframe.shaped[-1] == 1)
        pixels, _, shape = frame.keyframe.decode(data, index, **options)
        return None if pixels is None else pixels[0, : shape[1], : shape[2]]


def _is_complete(tiff: Any) -> bool:
    """Whether the first directory has all its tags, and the chain of directories ends where it should.

    tifffile goes on with what is left, and a slide without its lower levels would pass for a whole one.
    """
    handle, layout = tiff.filehandle, tiff.tiff

    def read(at: int, form: str, num_bytes: int) -> int:
        handle.seek(at)
        return int(unpack(form, handle.read(num_bytes))[0])

    first, last = tiff.pages[0], tiff.pages[-1]
    num_tags, num_last = (read(page.offset, layout.tagnoformat, layout.tagnosize) for page in (first, last))
    next_at = last.offset + layout.tagnosize + num_last * layout.tagsize
    return len(list(first.tags)) == num_tags and read(next_at, layout.offsetformat, layout.offsetsize) == 0
