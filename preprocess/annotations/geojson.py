"""GeoJSON as QuPath and others write it: coordinates in level-0 pixels, y downwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shapely.geometry import MultiPolygon, Polygon

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, polygon_of
from preprocess.base.errors import UserError

NAME = "GeoJSON"
_WITHOUT_AREA = {"Point", "MultiPoint", "LineString", "MultiLineString"}


def recognises(content: Any) -> bool:
    """Whether ``content`` is a feature, a list of them (HuBMAP's JSON of 2021), a FeatureCollection, or empty."""
    if isinstance(content, list):
        return not content or any(isinstance(item, dict) and item.get("type") == "Feature" for item in content)
    return isinstance(content, dict) and content.get("type") in ("Feature", "FeatureCollection")


def parse(content: Any, slide: SlideFrame | None) -> Iterator[Drawing]:
    """A drawing for each area in each feature; a feature without one gives an empty drawing."""
    kind = content.get("type") if isinstance(content, dict) else None
    features = [content] if kind == "Feature" else content.get("features") if kind == "FeatureCollection" else content
    if not isinstance(features, list):
        raise UserError("GeoJSON without a list of features", remedy="export the annotations as GeoJSON again")
    for feature in features:
        label = _label(feature.get("properties") or {})
        geometry = feature["geometry"]
        yield from (Drawing(area, label) for area in _areas(geometry)) if geometry else (Drawing(Polygon(), label),)


def _areas(geometry: dict[str, Any]) -> Iterator[Polygon | MultiPolygon]:
    kind = geometry["type"]
    if kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _areas(part)
    elif kind == "Polygon":
        yield _polygon(geometry["coordinates"])
    elif kind == "MultiPolygon":
        yield MultiPolygon([area for rings in geometry["coordinates"] if (area := _polygon(rings))])
    elif kind in _WITHOUT_AREA:
        yield Polygon()
    else:
        raise ValueError(f"unknown geometry {kind!r}")


def _polygon(rings: list[Any]) -> Polygon:
    """A polygon from its rings, the first the outline, the others holes."""
    return polygon_of(rings[0], rings[1:]) if rings else Polygon()


def _label(properties: dict[str, Any]) -> str:
    """The class of an object: QuPath writes a name, older versions a string, newer ones a list of names."""
    found = properties.get("classification")
    if isinstance(found, dict):
        found = found.get("name") or ": ".join(found.get("names") or [])
    return str(found).strip() if found else UNCLASSIFIED
