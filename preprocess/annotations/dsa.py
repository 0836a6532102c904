"""JSON of the Digital Slide Archive and HistomicsUI: large_image annotation elements in level-0 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shapely.geometry import Polygon

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    box_of,
    ellipse_of,
    is_set,
    number,
    polygon_of,
    rotated,
    unused,
)
from preprocess.annotations.leftovers import other_items

NAME = "DSA JSON"
_CENTRED = {"rectangle", "ellipse", "circle"}


def recognises(content: Any) -> bool:
    """Whether ``content`` is an annotation with elements, alone, in its database record, or in a list."""
    return any(_has_elements(_document(item)) for item in _items(content))


def parse(content: Any, slide: SlideFrame | None) -> Iterator[Drawing]:
    """Closed polylines, rectangles, ellipses and circles; the label is the group, the label's text or the name."""
    for item in _items(content):
        document = _document(item)
        if not _has_elements(document):
            yield unused("annotation without elements")
            continue
        yield from other_items(document, {"elements", "attributes"})
        for element in document["elements"]:
            kind = str(element["type"]).lower()
            if kind == "polyline" and not is_set(element.get("closed"), "closed"):
                yield unused("open polyline")
            elif kind == "polyline":
                yield Drawing(polygon_of(element["points"], element.get("holes") or ()), _label(element, document))
            elif kind in _CENTRED:
                yield Drawing(_centred(kind, element), _label(element, document))
            else:
                yield unused(kind)


def _items(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content]


def _document(item: Any) -> dict[str, Any]:
    inner = item.get("annotation", item) if isinstance(item, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _has_elements(document: dict[str, Any]) -> bool:
    """Whether it is an annotation with elements; one without any has a name at least, or is another program's."""
    elements = document.get("elements")
    return isinstance(elements, list) and bool(elements or "name" in document)


def _centred(kind: str, element: dict[str, Any]) -> Polygon:
    x, y = (number(value) for value in element["center"][:2])
    if kind == "circle":
        return ellipse_of(x, y, number(element["radius"]), number(element["radius"]))
    half_width, half_height = number(element["width"]) / 2, number(element["height"]) / 2
    if kind == "ellipse":
        upright = ellipse_of(x, y, half_width, half_height)
    else:
        upright = box_of(x - half_width, y - half_height, x + half_width, y + half_height)
    return rotated(upright, number(element.get("rotation") or 0), x, y)


def _label(element: dict[str, Any], document: dict[str, Any]) -> str:
    text = element.get("label")
    group = element.get("group")
    names = (group if group != "default" else None, text.get("value") if isinstance(text, dict) else text)
    return next((str(name).strip() for name in (*names, document.get("name")) if name), UNCLASSIFIED)
