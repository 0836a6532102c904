"""JSON of the Digital Slide Archive and HistomicsUI: large_image annotation elements in level-0 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shapely import affinity
from shapely.geometry import Polygon

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, box_of, ellipse_of, polygon_of

NAME = "DSA JSON"
_WITHOUT_AREA = {"point", "arrow", "heatmap", "griddata", "rectanglegrid", "image", "pixelmap"}


def recognises(content: Any) -> bool:
    """Whether ``content`` is an annotation with elements, alone, in its database record, or in a list."""
    return any(isinstance(_document(item).get("elements"), list) for item in _items(content))


def parse(content: Any, slide: SlideFrame | None) -> Iterator[Drawing]:
    """Closed polylines, rectangles, ellipses and circles; the label is the group, the label's text or the name."""
    for item in _items(content):
        document = _document(item)
        for element in document["elements"]:
            yield Drawing(_area(element), _label(element, document))


def _items(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content]


def _document(item: Any) -> dict[str, Any]:
    inner = item.get("annotation", item) if isinstance(item, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _area(element: dict[str, Any]) -> Polygon:
    kind = element["type"]
    if kind in _WITHOUT_AREA or (kind == "polyline" and not element.get("closed")):
        return Polygon()
    if kind == "polyline":
        return polygon_of(element["points"], element.get("holes") or ())
    if kind not in ("rectangle", "ellipse", "circle"):
        raise ValueError(f"unknown element {kind!r}")
    x, y = (float(value) for value in element["center"][:2])
    if kind == "circle":
        return ellipse_of(x, y, float(element["radius"]), float(element["radius"]))
    half_width, half_height = float(element["width"]) / 2, float(element["height"]) / 2
    if kind == "ellipse":
        upright = ellipse_of(x, y, half_width, half_height)
    else:
        upright = box_of(x - half_width, y - half_height, x + half_width, y + half_height)
    rotated = affinity.rotate(upright, float(element.get("rotation") or 0), origin=(x, y), use_radians=True)
    return polygon_of(rotated.exterior.coords)  # a rotation by infinity is an error


def _label(element: dict[str, Any], document: dict[str, Any]) -> str:
    text = element.get("label")
    group = element.get("group")
    names = (group if group != "default" else None, text.get("value") if isinstance(text, dict) else text)
    return next((str(name).strip() for name in (*names, document.get("name")) if name), UNCLASSIFIED)
