"""Labelme JSON: shapes in the pixels of one image, whose size it states."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from shapely.geometry import Polygon

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    box_of,
    ellipse_of,
    polygon_of,
    scale_to,
)
from preprocess.annotations.runs import drawings_of_mask
from preprocess.base.geometry import Size

NAME = "Labelme JSON"
_WITHOUT_AREA = {"point", "points", "line", "linestrip"}


def recognises(content: Any) -> bool:
    """Whether ``content`` has shapes."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def parse(content: Any, slide: SlideFrame | None) -> Iterator[Drawing]:
    """Polygons, rectangles, circles and masks.

    The image, where its size is stated, is the slide or the slide reduced by a whole factor.
    """
    width, height = content.get("imageWidth"), content.get("imageHeight")
    scale = scale_to(slide, Size(int(width), int(height))) if width and height else 1.0
    for shape in content["shapes"]:
        label = str(shape.get("label") or UNCLASSIFIED).strip()
        points = [(float(x) * scale, float(y) * scale) for x, y in shape["points"]]
        if shape.get("shape_type") == "mask":
            left, top = shape["points"][0]
            for part in drawings_of_mask(_mask(shape["mask"]), scale, offset=(float(left), float(top))):
                yield Drawing(part.geometry, label)
        else:
            yield Drawing(_area(shape.get("shape_type") or "polygon", points), label)


def _area(kind: str, points: list[tuple[float, float]]) -> Polygon:
    if kind in _WITHOUT_AREA:
        return Polygon()
    if kind == "rectangle":
        xs, ys = zip(*points, strict=True)
        return box_of(min(xs), min(ys), max(xs), max(ys))
    if kind == "circle":  # its centre and a point on it
        radius = math.dist(*points)
        return ellipse_of(*points[0], radius, radius)
    if kind in ("polygon", "oriented_rectangle"):
        return polygon_of(points)
    raise ValueError(f"unknown shape {kind!r}")


def _mask(text: str) -> np.ndarray:
    """The cut-out that a mask is stored as, a PNG in base64: bool (h, w) as uint8."""
    image = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError("its mask is no image")
    return (image > 0).astype(np.uint8)
