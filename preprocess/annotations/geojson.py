"""GeoJSON as QuPath and others write it: coordinates in level-0 pixels, y downwards."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from shapely.geometry import MultiPolygon, Polygon

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, polygon_of, unused
from preprocess.annotations.leftovers import other_items
from preprocess.base.errors import UserError

NAME = "GeoJSON"
_WITHOUT_AREA = {"Point", "MultiPoint", "LineString", "MultiLineString"}
_GEOMETRIES = {"Polygon", "MultiPolygon", "GeometryCollection"} | _WITHOUT_AREA
_TYPES = {"Feature", "FeatureCollection"} | _GEOMETRIES
# QuPath's key, and what other programs write instead.
_CLASS_KEYS = ("classification", "class", "class_name", "label", "category", "type")
_NOTHING: tuple[Any, ...] = (None, "", {}, [])
# The name in text of a dictionary that is neither JSON nor Python.
_NAME_IN_TEXT = re.compile(r"""^\s*\{.*?['"]name['"]\s*:\s*['"]([^'"]+)['"]""", re.DOTALL)
# What a class that is missing becomes in text.
_NO_CLASS = {"", "null", "none", "nan"}
# QuPath's objects that nobody drew around an object: cores of a tissue microarray, superpixels, the whole image.
_NO_OBJECTS = {
    "tmacore": "tmaCore",
    "tile": "tile",
    "root": "root",
    "tmacoreobject": "tmaCore",
    "pathtileobject": "tile",
    "pathrootobject": "root",
}


def recognises(content: Any) -> bool:
    """Whether ``content`` is a feature, a FeatureCollection, a geometry, a list of such (QuPath 0.2, HuBMAP), or []."""
    if isinstance(content, list):
        return not content or any(_type(item) in _TYPES for item in content)
    return _type(content) in _TYPES


def parse(content: Any, slide: SlideFrame | None) -> Iterator[Drawing]:
    """A drawing for each area in each feature; a feature without one, and QuPath's cores and tiles, are not used."""
    for item in content if isinstance(content, list) else [content]:
        kind = _type(item)
        if item is None:
            yield unused("null")
        elif kind == "FeatureCollection":
            if not isinstance(item.get("features"), list):
                raise UserError("GeoJSON without a list of features", remedy="export the annotations as GeoJSON again")
            yield from other_items(item, {"features"})
            yield from parse(item["features"], slide)
        elif kind == "Feature":
            yield from _drawings(item)
        elif kind in _GEOMETRIES:
            yield from _areas(item, UNCLASSIFIED)
        else:
            raise ValueError(f"{kind or item!r:.40} is no feature")


def _type(item: Any) -> str | None:
    kind = item.get("type") if isinstance(item, dict) else None
    return kind if isinstance(kind, str) else None


def _drawings(feature: dict[str, Any]) -> Iterator[Drawing]:
    properties = feature.get("properties") or {}
    if isinstance(properties, str):
        properties = _literal(properties)
    properties = {str(key).lower(): value for key, value in properties.items()}
    # Until version 0.2 the class of QuPath's object is the feature's id.
    kinds = (properties.get("objecttype"), properties.get("object_type"), feature.get("id"))
    kind = next((_NO_OBJECTS[str(kind).lower()] for kind in kinds if str(kind).lower() in _NO_OBJECTS), None)
    if kind:
        yield unused(kind)
    elif not feature.get("geometry"):
        yield unused("feature without geometry")
    else:
        said = next((properties[key] for key in _CLASS_KEYS if properties.get(key) not in _NOTHING), None)
        yield from _areas(feature["geometry"], _label(said))


def _areas(geometry: dict[str, Any], label: str) -> Iterator[Drawing]:
    kind = geometry["type"]
    if kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _areas(part, label)
    elif kind == "Polygon":
        yield Drawing(_polygon(geometry["coordinates"]), label)
    elif kind == "MultiPolygon":
        yield Drawing(MultiPolygon([area for rings in geometry["coordinates"] if (area := _polygon(rings))]), label)
    elif kind in _WITHOUT_AREA:
        yield unused(kind)
    else:
        raise ValueError(f"unknown geometry {kind!r}")


def _polygon(rings: list[Any]) -> Polygon:
    """A polygon from its rings, the first the outline, the others holes."""
    return polygon_of(rings[0], rings[1:]) if rings else Polygon()


def _label(found: Any) -> str:
    """The class of an object: QuPath writes a name, older versions a string, newer ones a list of names.

    GeoPandas and scripts make text of these, as JSON or as Python writes it.
    """
    if isinstance(found, str) and found.strip()[:1] in ("{", "[", '"', "'"):
        found = _literal(found)
        if isinstance(found, str):
            name = _NAME_IN_TEXT.match(found)
            found = name[1] if name else found
    if isinstance(found, dict):
        found = found.get("name") or found.get("names") or found.get("value")
    if isinstance(found, list):
        found = ": ".join(_label(part) for part in found)
    text = "" if found is None else str(found).strip()
    return UNCLASSIFIED if text.lower() in _NO_CLASS else text


def _literal(text: str) -> Any:
    for parse_text in (json.loads, ast.literal_eval):
        try:
            return parse_text(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return text
