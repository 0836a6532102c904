"""CVAT's XML for images, version 1.1: shapes in the pixels of each image, whose size it states."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

import numpy as np
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    box_of,
    check_coordinates,
    ellipse_of,
    image_named_like,
    number,
    polygon_of,
    rotated,
    scale_to,
    stated_size,
    unused,
)
from preprocess.annotations.runs import area_of_column_runs
from preprocess.base.geometry import Size

NAME = "CVAT XML"


def recognises(root: Element) -> bool:
    """Whether ``root`` holds images, tracks of a video, or the description of a task."""
    return root.tag == "annotations" and any(child.tag in ("image", "track", "meta") for child in root)


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """Polygons, boxes and ellipses, both perhaps rotated, and masks of the image that is named like the slide.

    That image is the slide or the slide reduced by a whole factor; without a slide it is a file's only image.
    """
    images = list(root.iterfind("image"))
    if not images and root.find("track") is not None:
        yield from (unused("track of a video") for _ in root.iterfind("track"))
        return
    remedy = "the image's name must be the slide's, whatever its suffix"
    stated = image_named_like(slide, [image.attrib for image in images], "name", remedy)
    image = next(image for image in images if image.attrib is stated)
    size = stated_size(stated.get("width"), stated.get("height"))
    scale = scale_to(slide, size) if size else 1.0
    for shape in image:
        if shape.tag in _AREAS:
            area = shapely.transform(_AREAS[shape.tag](shape), lambda xy: xy * scale)
            group = shape.get("group_id", "").strip()
            label = shape.get("label", "").strip() or UNCLASSIFIED
            yield Drawing(area, label, whole=True, group="" if group == "0" else group)
        elif shape.tag != "tag":  # which is of the whole image
            yield unused(shape.tag)


def _numbers(shape: Element, *names: str) -> list[float]:
    return [number(shape.attrib[name]) for name in names]


def _turned(shape: Element, upright: Polygon, x: float, y: float) -> Polygon:
    """``upright`` as CVAT turns it: by degrees, clockwise, around its middle."""
    return rotated(upright, math.radians(number(shape.get("rotation") or 0)), x, y)


def _polygon(shape: Element) -> Polygon:
    pairs = [point.split(",") for point in shape.attrib["points"].split(";") if point.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("its points are no pairs x,y")
    return polygon_of(pairs)


def _box(shape: Element) -> Polygon:
    x0, y0, x1, y1 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    return _turned(shape, box_of(x0, y0, x1, y1), (x0 + x1) / 2, (y0 + y1) / 2)


def _ellipse(shape: Element) -> Polygon:
    x, y, radius_x, radius_y = _numbers(shape, "cx", "cy", "rx", "ry")
    return _turned(shape, ellipse_of(x, y, radius_x, radius_y), x, y)


def _mask(shape: Element) -> BaseGeometry:
    """The area of run lengths of background and object, in turn, along the rows of a part of the image."""
    left, top, width, height = _numbers(shape, "left", "top", "width", "height")
    check_coordinates((left, top))
    runs = np.array([int(run) for run in shape.attrib["rle"].split(",")], dtype=np.int64)
    ends = np.cumsum(runs)
    # Rows are the columns of the transposed mask.
    starts, lengths = ends[:-1][::2], runs[1::2]
    area = area_of_column_runs(starts, lengths, Size(int(height), int(width)))
    return shapely.transform(area, lambda yx: yx[:, ::-1] + (left, top))


_AREAS: dict[str, Callable[[Element], BaseGeometry]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}
