"""TIFFs that OpenSlide does not read as they are meant: OME-TIFF with its levels, and those that are not tiled."""

from __future__ import annotations

import logging
import math
from functools import lru_cache
from pathlib import Path
from struct import unpack
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
import tifffile
from defusedxml import DefusedXmlException, ElementTree

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers.reader import DAMAGED, Image, on_white, paste, read_inside, tiles_under, true_downsample

# It logs what it then also raises, or what is checked here.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CACHE_BYTES = 64 << 20
_ENDS_EARLY = "a TIFF that ends early, or lists the wrong number of tiles"
# Lengths in the schema of OME; it writes the micro sign in one of two ways, and leaves it out for the default.
_UNIT_UM = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
_TIFF_UNIT = {2: "inch", 3: "centimeter"}


class PlainTiffReader:
    """The largest image of a TIFF that tifffile reads; see :class:`preprocess.slides.readers.reader.Reader`.

    8-bit grey, RGB or RGBA, interleaved, in planes or in three pages. Only the tiles or strips under a
    request are decoded, and the last 64 MB of them are kept.
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
            series = max(self._tiff.series, key=lambda one: int(np.prod(one.shape, dtype=np.int64)))
            self._levels = [_Level(level) for level in series.levels]
            self.properties = _properties(self._tiff, series.keyframe)
        except UserError as error:
            self._tiff.close()
            raise UserError(error.reason, path=path, remedy=error.remedy) from None
        except Exception as error:
            self._tiff.close()
            raise UserError(f"not readable as a TIFF: {error}", path=path, remedy=DAMAGED) from error
        self.size = self._levels[0].size
        self.downsamples = tuple(true_downsample(self.size, level.size) for level in self._levels)

    @staticmethod
    def recognises(path: Path, *, only_ome: bool = False) -> bool:
        """Whether the file is a TIFF, or an OME-TIFF."""
        with path.open("rb") as stream:
            if stream.read(4) not in _MAGIC:
                return False
        if not only_ome:
            return True
        try:
            with tifffile.TiffFile(path) as tiff:
                return bool(tiff.is_ome)
        except Exception:  # damaged: whoever opens it will say so
            return False

    def read(self, level: int, x: int, y: int, size: Size) -> Image:
        def read(x: int, y: int, part: Size) -> Image:
            try:
                return self._levels[level].read(x, y, part)
            except Exception as error:  # whatever the codec raises
                raise UserError(f"pixels not readable: {error}", path=self._path, remedy=DAMAGED) from error

        return read_inside(read, self._levels[level].size, x, y, size)

    def close(self) -> None:
        self._tiff.close()


class _Level:
    """One level: its page, or its three pages of one colour each."""

    def __init__(self, series: Any) -> None:
        page = series.keyframe
        self._pages: list[Any] = list(series.pages)
        self._inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        separate, depth, height, width, contiguous = page.shaped
        planes = len(self._pages) * separate * contiguous
        if page.dtype != np.uint8 or page.bitspersample != 8 or page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            kind = "a palette" if page.dtype == np.uint8 else f"{page.bitspersample}-bit values"
            raise UserError(f"a TIFF of {kind}", remedy="convert it to 8-bit RGB")
        if depth > 1 or planes not in (1, 3, 4) or (separate > 1 and len(self._pages) > 1):
            raise UserError(f"a TIFF of {planes * depth} planes ({series.axes})", remedy="convert it to 8-bit RGB")
        self.size = Size(width, height)
        segment = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
        self._segment = Size(segment[1], min(segment[0], height))
        self._rows, self._columns = -(-height // self._segment.height), -(-width // self._segment.width)
        for one in self._pages:
            ends = [o + n for o, n in zip(one.dataoffsets, one.databytecounts, strict=True)]
            if len(ends) != separate * self._rows * self._columns or max(ends) > one.parent.filehandle.size:
                raise UserError(_ENDS_EARLY, remedy=DAMAGED)
        num_bytes = self._segment.width * self._segment.height * contiguous
        self._decoded = lru_cache(max(1, _CACHE_BYTES // num_bytes))(self._decode)

    def read(self, x: int, y: int, size: Size) -> Image:
        """The pixels of a rectangle inside the level, as uint8 RGB."""
        parts = [
            self._read_plane(number, plane, x, y, size)
            for number, page in enumerate(self._pages)
            for plane in range(page.keyframe.shaped[0])
        ]
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        if self._inverted:
            pixels = 255 - pixels
        if pixels.shape[2] == 4:
            return on_white(pixels)
        return np.ascontiguousarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)

    def _read_plane(self, page: int, plane: int, x: int, y: int, size: Size) -> Image:
        """The samples (h, w, s) of one plane, white where a tile was never written."""
        part = np.full((size.height, size.width, self._pages[page].keyframe.shaped[-1]), 255, np.uint8)
        for row, column in tiles_under(x, y, size, self._segment):
            pixels = self._decoded(page, (plane * self._rows + row) * self._columns + column)
            if pixels is not None:
                paste(part, pixels, column * self._segment.width - x, row * self._segment.height - y)
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


def _properties(tiff: tifffile.TiffFile, page: Any) -> dict[str, str]:
    """What the file says about itself, under OpenSlide's names; OME's own under ``ome.``."""
    found = _ome_properties(tiff.ome_metadata) if tiff.is_ome else {}
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        if tag is not None and tag.value[1]:
            found[f"tiff.{name}"] = str(tag.value[0] / tag.value[1])
    found["tiff.ResolutionUnit"] = _TIFF_UNIT.get(page.tags.valueof("ResolutionUnit", 2), "none")
    return found


def _ome_properties(text: str | None) -> dict[str, str]:
    """Pixel size in um and objective power of the largest image that the OME-XML describes."""
    try:
        root = ElementTree.fromstring(text or "")
    except (ParseError, DefusedXmlException):
        return {}
    pixels = max(root.iterfind(".//{*}Pixels"), key=_area, default=None)
    found = {}
    if pixels is not None:
        for axis in "XY":
            unit_um = _UNIT_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), math.nan)
            found[f"ome.physical-size-{axis.lower()}"] = str(unit_um * _number(pixels.get(f"PhysicalSize{axis}")))
    objective = root.find(".//{*}Objective[@NominalMagnification]")
    if objective is not None:
        found["openslide.objective-power"] = objective.get("NominalMagnification", "")
    return found


def _area(pixels: Element) -> float:
    area = _number(pixels.get("SizeX")) * _number(pixels.get("SizeY"))
    return area if area > 0 else 0.0


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
