"""ImageJ's regions of interest: one .roi file, or a RoiSet (a zip of them), in pixels of the image."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from functools import reduce

import shapely
from roifile import ROI_TYPE, ImagejRoi
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    box_of,
    ellipse_within,
    polygon_of,
    unused,
)

NAME = "ImageJ RoiSet"
_MAGIC, _ZIP = b"Iout", b"PK\x03\x04"
_MAX_ROI_BYTES = 16 << 20
_OTHER_OUTLINES = (".geojson", ".json", ".xml", ".csv", ".png", ".tif", ".tiff")
# Names that ImageJ makes of the place, and roifile of a UUID.
_MADE_UP = re.compile(r"^(\d{4,}(-\d{4,})+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$")
_OUTLINED = {ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED}


def recognises(data: bytes) -> bool:
    """Whether ``data`` is a region of interest or a zip with some."""
    if not data.startswith(_ZIP):
        return data.startswith(_MAGIC)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(map(_is_region, archive.namelist()))
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def parse(data: bytes, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The regions with an area.

    The label is the class that QuPath gives, or the region's name without its counter, where it has one
    that no program made up.
    """
    for item in _entries(data):
        if isinstance(item, bytes):
            roi = ImagejRoi.frombytes(item)
            area = _area(roi)
            yield unused(roi.roitype.name.lower()) if area is None else Drawing(area, _label(roi))
        else:
            yield item


def _is_region(name: str) -> bool:
    return name.lower().endswith(".roi") and not name.startswith("__MACOSX/")


def _entries(data: bytes) -> Iterator[bytes | Drawing]:
    """The regions of a file, and an unused item for each other file of a zip that is an image or outlines."""
    if data.startswith(_MAGIC):
        yield data
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if _is_region(entry.filename):
                if entry.file_size > _MAX_ROI_BYTES:
                    raise ValueError(f"{entry.filename} has {entry.file_size} bytes")
                yield archive.read(entry)
            elif entry.filename.lower().endswith(_OTHER_OUTLINES):
                yield unused("other file of the zip")


def _area(roi: ImagejRoi) -> BaseGeometry | None:
    """What the region covers, or None where it is of a kind that covers nothing."""
    if roi.multi_coordinates is not None:
        # Paths one in another: an even number deep is outside.
        paths = [polygon_of(path.tolist()) for path in ImagejRoi.path2coords(roi.multi_coordinates)]
        return reduce(shapely.symmetric_difference, map(shapely.make_valid, paths), Polygon())
    if roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        x0, y0, x1, y1 = float(roi.left), float(roi.top), float(roi.right), float(roi.bottom)
        if roi.subpixelrect:
            x0, y0, x1, y1 = roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
        return (box_of if roi.roitype == ROI_TYPE.RECT else ellipse_within)(x0, y0, x1, y1)
    return polygon_of(list(roi.coordinates())) if roi.roitype in _OUTLINED else None


def _label(roi: ImagejRoi) -> str:
    # The roifile of Python 3.10 cuts the properties short, and has no attribute for them.
    named = str(getattr(roi, "properties", {}).get("qupath.object.classification") or "")
    return named or re.sub(r"[-_ #.]*\d+$", "", _MADE_UP.sub("", roi.name or "")) or UNCLASSIFIED
