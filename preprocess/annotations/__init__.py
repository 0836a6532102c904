"""Annotations of a slide, whatever format they come in: one module per format, chosen by content."""

from __future__ import annotations

from pathlib import Path

from preprocess.annotations import geojson
from preprocess.annotations.annotation import UNCLASSIFIED, Annotation
from preprocess.errors import UserError

__all__ = ["UNCLASSIFIED", "Annotation", "read_annotations"]

_FORMATS = (geojson,)


def read_annotations(path: str | Path) -> list[Annotation]:
    """The outlined objects in ``path``, in the order of the file; polygons in level-0 pixels of the slide.

    Raises UserError if the file is missing, damaged, or in no known format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no such annotation file", path=path, remedy="check the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("not a text file in UTF-8", path=path, remedy="give annotations as GeoJSON") from error
    for module in _FORMATS:
        if module.recognises(text):
            return module.parse(text, path)
    raise UserError(
        "unknown annotation format" if text.strip() else "the annotation file is empty",
        path=path,
        remedy="give GeoJSON, as QuPath exports it; for a slide without objects an empty list: []",
    )
