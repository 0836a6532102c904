"""Annotations of a slide, whatever format they come in: one module per format, chosen by content."""

from __future__ import annotations

import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

from shapely.errors import ShapelyError

from preprocess.annotations import (
    asap,
    coco,
    cvat,
    dsa,
    geojson,
    halo,
    hubmap_jsonl,
    hubmap_rle,
    imagej,
    imagescope,
    labelme,
    mask,
    ndpa,
    pascal_voc,
    via,
)
from preprocess.annotations.annotation import UNCLASSIFIED, Annotation, Annotations, Drawing, SlideFrame, collect
from preprocess.annotations.content import EXPORT_AGAIN, MAX_BYTES, decode, parse_json, parse_xml, unpacked
from preprocess.annotations.origin import ScannedSlide, read_in_slide_frame
from preprocess.base.errors import UserError, named

__all__ = ["UNCLASSIFIED", "Annotation", "Annotations", "SlideFrame", "read_annotations"]

_BINARY = (imagej, mask)
_XML = (asap, ndpa, cvat, halo, imagescope, pascal_voc)
_JSON = (geojson, dsa, labelme, coco, hubmap_jsonl, via)
_TEXT = (hubmap_rle, via)

_DAMAGED = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RuntimeError,
    EOFError,
    ShapelyError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_annotations(path: str | Path, slide: ScannedSlide | None = None, origin: str | None = None) -> Annotations:
    """The outlined objects in ``path``, in the order of the file; polygons in level-0 pixels of the slide.

    The format is found in the content, whatever the suffix; gzip and a zip of one file are unpacked. ``slide`` (an
    open Slide, or whatever has its name, size, region, um/px and header) is needed by run-length tables and NDPA, picks
    the image in files of many, and puts annotations of a reduced image into the slide's pixels. ``origin`` is where
    coordinates count from (:func:`preprocess.annotations.origin.read_in_slide_frame`). Raises UserError if the file
    is missing, damaged, of another slide, in no known format, or has items of which none is an object, or if
    ``origin`` is missing and needed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no such annotation file", path=path, remedy="check the path")
    with named(path):
        read = partial(_parse, *_recognise(unpacked(path.read_bytes())))
        return read(None) if slide is None else read_in_slide_frame(slide, origin, read)


def _parse(module: Any, content: Any, slide: SlideFrame | None) -> Annotations:
    drawings: list[Drawing] = []
    try:
        drawings.extend(module.parse(content, slide))
    except _DAMAGED as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"damaged {module.NAME}, item {len(drawings) + 1}: {reason}", remedy=EXPORT_AGAIN) from error
    found = collect(drawings)
    if drawings and not found:
        raise UserError(
            f"none of the {len(drawings)} items of this {module.NAME} is an object: {found.unused_text}",
            remedy="outline the objects with polygons; for a slide without objects give an empty file of the format",
        )
    return found


def _recognise(data: bytes) -> tuple[Any, Any]:
    """The module that reads ``data``, and what it reads: bytes, an XML element, a JSON value or text."""
    for module in _BINARY:
        if module.recognises(data):
            return module, data
    if len(data) > MAX_BYTES:
        raise UserError(f"more than {MAX_BYTES >> 20} MiB of annotations", remedy="give one file per slide")
    start = data.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1]
    formats: tuple[Any, ...]
    content: Any
    if start == b"<":
        formats, content = _XML, parse_xml(data)
    elif start in (b"{", b"["):
        formats, content = _JSON, parse_json(data)
    else:
        formats, content = _TEXT, decode(data)
    for module in formats:
        if module.recognises(content):
            return module, content
    raise UserError(
        "unknown annotation format" if data.strip() else "the annotation file is empty",
        remedy="docs/annotations.md lists the formats; for a slide without objects give an empty list: []",
    )
