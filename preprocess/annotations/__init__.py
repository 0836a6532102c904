"""Annotations of a slide, whatever format they come in: one module per format, chosen by content."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException, ElementTree
from shapely.errors import ShapelyError

from preprocess.annotations import (
    asap,
    coco,
    dsa,
    geojson,
    halo,
    hubmap_jsonl,
    hubmap_rle,
    imagej,
    imagescope,
    labelme,
    mask,
    pascal_voc,
)
from preprocess.annotations.annotation import UNCLASSIFIED, Annotation, Annotations, Drawing, SlideFrame, collect
from preprocess.base.errors import UserError, named

__all__ = ["UNCLASSIFIED", "Annotation", "Annotations", "SlideFrame", "read_annotations"]

_BINARY = (imagej, mask)
_XML = (asap, halo, imagescope, pascal_voc)
_JSON = (geojson, dsa, labelme, coco, hubmap_jsonl)
_TEXT = (hubmap_rle,)

_MAX_BYTES = 512 << 20
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
_REMEDY = "export the annotations again"


def read_annotations(path: str | Path, slide: SlideFrame | None = None) -> Annotations:
    """The outlined objects in ``path``, in the order of the file; polygons in level-0 pixels of the slide.

    The format is found in the content, whatever the suffix; gzip is unpacked. ``slide`` (an open Slide,
    or whatever has its name and size) is needed by run-length tables, picks the image in files of many,
    and puts annotations of a reduced image into the slide's pixels. Raises UserError if the file is
    missing, damaged, of another slide, in no known format, or has nothing but points and lines.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no such annotation file", path=path, remedy="check the path")
    with named(path):
        return _read(path, slide)


def _read(path: Path, slide: SlideFrame | None) -> Annotations:
    module, content = _recognise(_read_bytes(path))
    drawings: list[Drawing] = []
    try:
        drawings.extend(module.parse(content, slide))
    except _DAMAGED as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"damaged {module.NAME}, item {len(drawings) + 1}: {reason}", remedy=_REMEDY) from error
    found = collect(drawings)
    if drawings and not found:
        reasons = ", ".join(f"{reason} {count}" for reason, count in found.unused.items())
        raise UserError(
            f"none of the {len(drawings)} items of this {module.NAME} is an object: {reasons}",
            remedy="outline the objects with polygons; for a slide without objects give an empty file of the format",
        )
    return found


def _read_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as stream:
                data = stream.read(_MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"damaged gzip: {error}", remedy=_REMEDY) from error
    if len(data) > _MAX_BYTES and not mask.recognises(data):
        raise UserError(f"more than {_MAX_BYTES >> 20} MiB of annotations", remedy="give one file per slide")
    return data


def _recognise(data: bytes) -> tuple[Any, Any]:
    """The module that reads ``data``, and what it reads: bytes, an XML element, a JSON value or text."""
    for module in _BINARY:
        if module.recognises(data):
            return module, data
    start = data.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1]
    formats: tuple[Any, ...]
    content: Any
    if start == b"<":
        formats, content = _XML, _parse_xml(data)
    elif start in (b"{", b"["):
        formats, content = _JSON, _parse_json(data)
    else:
        formats, content = _TEXT, _decode(data)
    for module in formats:
        if module.recognises(content):
            return module, content
    raise UserError(
        "unknown annotation format" if data.strip() else "the annotation file is empty",
        remedy="docs/annotations.md lists the formats; for a slide without objects give an empty list: []",
    )


def _parse_xml(data: bytes) -> Any:
    try:
        return ElementTree.fromstring(data)
    except DefusedXmlException as error:
        raise UserError("XML with entities is not read", remedy=_REMEDY) from error
    except (ParseError, ValueError, LookupError) as error:
        raise UserError(f"damaged XML: {error}", remedy=_REMEDY) from error


def _parse_json(data: bytes) -> Any:
    """A JSON value in UTF-8, -16 or -32; JSON lines become the list of their values."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        try:
            lines = _decode(data).splitlines()
            values = [json.loads(line) for line in lines if line.strip()] if len(lines) > 1 else []
        except (ValueError, RecursionError, UserError):
            values = []
        if not values:
            raise UserError(f"damaged JSON: {error}", remedy=_REMEDY) from error
        return values


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("neither a known binary format nor text in UTF-8", remedy=_REMEDY) from error
