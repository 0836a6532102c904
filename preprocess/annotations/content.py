"""What an annotation file holds: unpacked bytes, and the XML element, JSON value or text that they are."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
import zlib
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from preprocess.annotations import imagej
from preprocess.base.errors import UserError

MAX_BYTES = 512 << 20
EXPORT_AGAIN = "export the annotations again"
_GZIP, _ZIP, _EMPTY_ZIP = b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06"
_MAX_WRAPPERS = 3
_MAX_NAMES = 3
_DECLARED = re.compile(rb"""<\?xml[^>]*encoding=["']([\w.-]+)""")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def unpacked(data: bytes) -> bytes:
    """``data``, or what gzip or a zip of a single file holds, or one in the other; a zip of ImageJ's regions stays."""
    for _ in range(_MAX_WRAPPERS):
        if data.startswith(_GZIP):
            data = _gunzipped(data)
        elif data.startswith((_ZIP, _EMPTY_ZIP)) and not imagej.recognises(data):
            data = _only_file(data)
        else:
            return data
    raise UserError("packed again and again", remedy=EXPORT_AGAIN)


def parse_xml(data: bytes) -> Element:
    """An XML element; its tags and attributes in lower case and without namespaces, however a program spells them."""
    try:
        root = _parsed(data)
    except DefusedXmlException as error:
        raise UserError("XML with entities is not read", remedy=EXPORT_AGAIN) from error
    except (ParseError, ValueError, LookupError) as error:
        raise UserError(f"damaged XML: {error}", remedy=EXPORT_AGAIN) from error
    for element in root.iter():
        element.tag = _plain(element.tag)
        element.attrib = {_plain(name): value for name, value in element.attrib.items()}
    return root


def parse_json(data: bytes) -> Any:
    """A JSON value in UTF-8, -16 or -32; JSON lines become the list of their values."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        try:
            lines = decode(data).splitlines()
            values = [json.loads(line) for line in lines if line.strip()] if len(lines) > 1 else []
        except (ValueError, RecursionError, UserError):
            values = []
        if not values:
            raise UserError(f"damaged JSON: {error}", remedy=EXPORT_AGAIN) from error
        return values


def decode(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with its mark."""
    try:
        return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("neither a known binary format nor text in UTF-8", remedy=EXPORT_AGAIN) from error


def _gunzipped(data: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            return _limited(stream.read(MAX_BYTES + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"damaged gzip: {error}", remedy=EXPORT_AGAIN) from error


def _only_file(data: bytes) -> bytes:
    """The one file of a zip, such as QuPath's of a GeoJSON; what a Mac adds and hidden files do not count."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and not _is_hidden(name)]
            if len(names) != 1:
                shown = ", ".join(names[:_MAX_NAMES]) + ", ..." * (len(names) > _MAX_NAMES)
                raise UserError(
                    f"a zip of {len(names)} files{': ' * bool(names)}{shown}",
                    remedy="give the one annotation file of this slide, or a zip of it alone or of ImageJ's regions",
                )
            with archive.open(names[0]) as stream:
                return _limited(stream.read(MAX_BYTES + 1))
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise UserError(f"damaged zip: {error}", remedy=EXPORT_AGAIN) from error


def _is_hidden(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith(".")


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise UserError(f"more than {MAX_BYTES >> 20} MiB of annotations", remedy="give one file per slide")
    return data


def _parsed(data: bytes) -> Element:
    """``data`` as it declares its encoding, or else, since .NET declares UTF-16 for any text, as what it is."""
    data = data.lstrip(b"\r\n\t ")
    try:
        return ElementTree.fromstring(data)
    except (ParseError, ValueError, LookupError):
        text = None
        with suppress(UserError):
            text = decode(data)
        if text is None and (declared := _DECLARED.match(data)):
            # Python knows more encodings than its XML parser, such as those of Chinese and Japanese.
            with suppress(LookupError, UnicodeDecodeError):
                text = data.decode(declared[1].decode("ascii"))
        if text is None:
            raise
        return ElementTree.fromstring(text)


def _plain(name: str) -> str:
    return name.rpartition("}")[2].lower()
