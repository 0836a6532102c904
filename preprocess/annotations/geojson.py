"""GeoJSON as QuPath and others write it: coordinates in level-0 pixels, y downwards."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from shapely.errors import ShapelyError
from shapely.geometry import LinearRing, MultiPolygon, Polygon

from preprocess.annotations.annotation import UNCLASSIFIED, Annotation, to_annotations
from preprocess.errors import UserError

_REMEDY = "export the annotations as GeoJSON again"
_WITHOUT_AREA = {"Point", "MultiPoint", "LineString", "MultiLineString"}


def recognises(text: str) -> bool:
    """Whether ``text`` looks like GeoJSON: a feature, a list of them, or a FeatureCollection."""
    start = text.lstrip()
    if re.match(r"\[\s*\]", start):
        return True
    return start.startswith(("[", "{")) and re.search(r'"Feature(Collection)?"', text) is not None


def parse(text: str, path: Path) -> list[Annotation]:
    """The polygons of the GeoJSON ``text``; ``path`` is for messages.

    Points and lines are skipped, as are outlines without an area; a file that has nothing else is an
    error, while one with no features at all has no annotations.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"damaged GeoJSON: {error}", path=path, remedy=_REMEDY) from error
    features = _features(content, path)
    annotations: list[Annotation] = []
    for number, feature in enumerate(features, start=1):
        try:
            annotations += _read_feature(feature)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ShapelyError) as error:
            raise UserError(f"feature {number} is damaged: {_reason(error)}", path=path, remedy=_REMEDY) from error
    if features and not annotations:
        raise UserError(
            f"none of its {len(features)} features is an area",
            path=path,
            remedy="outline the objects with polygons; for a slide without objects give an empty FeatureCollection",
        )
    return annotations


def _features(content: Any, path: Path) -> list[Any]:
    kind = content.get("type") if isinstance(content, dict) else None
    features = [content] if kind == "Feature" else content.get("features") if kind == "FeatureCollection" else content
    if not isinstance(features, list):
        raise UserError("GeoJSON without a list of features", path=path, remedy=_REMEDY)
    return features


def _read_feature(feature: dict[str, Any]) -> list[Annotation]:
    geometry = feature["geometry"]
    if geometry is None:
        return []
    return _read_geometry(geometry, _label(feature.get("properties") or {}))


def _read_geometry(geometry: dict[str, Any], label: str) -> list[Annotation]:
    kind = geometry["type"]
    if kind in _WITHOUT_AREA:
        return []
    if kind == "GeometryCollection":
        return [found for part in geometry["geometries"] for found in _read_geometry(part, label)]
    if kind == "Polygon":
        polygon = _polygon(geometry["coordinates"])
        return to_annotations(polygon, label) if polygon else []
    if kind == "MultiPolygon":
        polygons = [polygon for rings in geometry["coordinates"] if (polygon := _polygon(rings))]
        return to_annotations(MultiPolygon(polygons), label)
    raise ValueError(f"unknown geometry {kind!r}")


def _polygon(rings: list[Any]) -> Polygon | None:
    """A polygon from its rings, the first the outline, the others holes; None where the outline has no area."""
    outline, *holes = [_ring(ring) for ring in rings] or [None]
    return Polygon(outline, [hole for hole in holes if hole]) if outline else None


def _ring(points: list[Any]) -> LinearRing | None:
    xy = [(float(point[0]), float(point[1])) for point in points]
    if not all(math.isfinite(value) for point in xy for value in point):
        raise ValueError("a coordinate is not a finite number")
    return LinearRing(xy) if len(set(xy)) >= 3 else None


def _label(properties: dict[str, Any]) -> str:
    """The class of an object: QuPath writes a name, older versions a string, newer ones a list of names."""
    found = properties.get("classification")
    if isinstance(found, dict):
        found = found.get("name") or ": ".join(found.get("names") or [])
    return str(found).strip() if found else UNCLASSIFIED


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
