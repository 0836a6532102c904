"""Labelme JSON, and X-AnyLabeling's: shapes in the pixels of one image, whose size it states."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from shapely.geometry import MultiPolygon, Polygon

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    box_of,
    ellipse_of,
    ellipse_within,
    is_set,
    iter_polygons,
    number,
    polygon_of,
    rotated,
    scale_to,
    stated_size,
    unused,
)
from preprocess.annotations.leftovers import other_items
from preprocess.annotations.runs import drawings_of_mask

NAME = "Labelme JSON"
_OF_IMAGE = {"version", "imagepath", "imagewidth", "imageheight"}
Points = list[tuple[float, float]]


def recognises(content: Any) -> bool:
    """Whether ``content`` has shapes, or none but says of which image."""
    if not isinstance(content, dict):
        return False
    content = _lower(content)
    return isinstance(content.get("shapes"), list) and bool(content["shapes"] or _OF_IMAGE & set(content))


def parse(content: Any, slide: SlideFrame | None) -> Iterator[Drawing]:
    """Polygons, rectangles, upright or rotated, circles, ellipses and masks; a difficult shape is to be ignored.
    Shapes of one label and ``group_id`` are one object.

    The image, where its size is stated, is the slide or the slide reduced by a whole factor.
    """
    content = _lower(content)
    size = stated_size(content.get("imagewidth"), content.get("imageheight"))
    scale = scale_to(slide, size) if size else 1.0
    for shape in map(_lower, content["shapes"]):
        label = str(shape.get("label") or "").strip() or UNCLASSIFIED
        ignore, group = is_set(shape.get("difficult"), "difficult"), _group(shape.get("group_id"))
        kind = str(shape.get("shape_type") or "polygon").lower()
        points = [(number(x) * scale, number(y) * scale) for x, y in shape["points"]]
        if kind == "mask":
            offset = points[0][0] / scale, points[0][1] / scale
            drawn = (part.geometry for part in drawings_of_mask(_mask(shape["mask"]), scale, offset))
            area = MultiPolygon([polygon for geometry in drawn for polygon in iter_polygons(geometry)])
            yield Drawing(area, label, ignore, whole=True, group=group)
        elif kind in _AREAS:
            yield Drawing(_AREAS[kind](points), label, ignore, group=group)
        else:
            yield unused(kind)
    yield from other_items(content, {"shapes", "flags"})


def _group(found: Any) -> str:
    """What the shapes of one object share, as Labelme's own converters take it; "" for a shape of its own."""
    return "" if found is None else str(found)


def _lower(content: dict[str, Any]) -> dict[str, Any]:
    """``content`` with its keys in lower case: a size that is spelt otherwise would go unseen."""
    return {key.lower(): value for key, value in content.items()}


def _rectangle(points: Points) -> Polygon:
    xs, ys = zip(*points, strict=True)
    return box_of(min(xs), min(ys), max(xs), max(ys))


def _circle(points: Points) -> Polygon:
    """A circle from its centre and a point on it."""
    radius = math.dist(*points)
    return ellipse_of(*points[0], radius, radius)


def _ellipse(points: Points) -> Polygon:
    """An ellipse from two opposite corners of the box around it, or from all four, which may be turned."""
    if len(points) == 2:
        return ellipse_within(*points[0], *points[1])
    first, second, third, fourth = np.array(points)
    x, y = ((first + second + third + fourth) / 4).tolist()
    upright = ellipse_of(x, y, math.dist(first, second) / 2, math.dist(second, third) / 2)
    return rotated(upright, math.atan2(*(second - first)[::-1].tolist()), x, y)


_AREAS: dict[str, Callable[[Points], Polygon]] = {
    "polygon": polygon_of,
    "rectangle": _rectangle,
    "rotation": polygon_of,
    "oriented_rectangle": polygon_of,
    "quadrilateral": polygon_of,
    "circle": _circle,
    "ellipse": _ellipse,
}


def _mask(text: str) -> np.ndarray:
    """The cut-out that a mask is stored as, a PNG in base64: bool (h, w) as uint8."""
    image = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError("its mask is no image")
    return (image > 0).astype(np.uint8)
