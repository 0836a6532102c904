"""COCO JSON: objects of many images, as polygons, run lengths or boxes in pixels of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    box_of,
    image_named_like,
    is_set,
    number,
    polygon_of,
    repaired,
    rotated,
    scale_to,
    stated_size,
    unused,
)
from preprocess.annotations.leftovers import other_items
from preprocess.annotations.runs import area_of_column_runs
from preprocess.base.geometry import Size

NAME = "COCO JSON"
_SAME_AREA, _MIN_BOXES = 0.05, 3


def recognises(content: Any) -> bool:
    """Whether ``content`` has images and annotations."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def parse(content: dict[str, Any], slide: SlideFrame | None) -> Iterator[Drawing]:
    """The objects of the image that is named like the slide; without a slide, of a file's only image.

    That image is the slide or the slide reduced by a whole factor. An object with iscrowd is to be ignored. Ids may
    be numbers in one place and text in another.

    Raises:
        ValueError: a category is not in the file, or a segmentation is no such thing.
    """
    remedy = "the image's file_name must be the slide's, whatever its suffix"
    image = image_named_like(slide, content["images"], "file_name", remedy)
    size = stated_size(image.get("width"), image.get("height"))
    scale = scale_to(slide, size) if size else 1.0
    boxes: list[dict[str, Any]] = []
    images = [_id(other["id"]) for other in content["images"]]
    if images.count(_id(image["id"])) > 1:
        raise ValueError(f"several of its images have the id {image['id']!r}")
    names = _names(content.get("categories") or [])
    for annotation in content["annotations"]:
        found = _id(annotation["image_id"])
        if found not in images:
            yield unused("annotation of no image of the file")
        elif found == _id(image["id"]):
            drawn = _drawn(annotation, size)
            if drawn.is_empty and (annotation.get("bbox") or not annotation.get("segmentation")):
                boxes.append(annotation)
                drawn = _box(annotation, size)
            area = shapely.transform(drawn, lambda xy: xy * scale)
            ignore = any(is_set(annotation.get(name), name) for name in ("iscrowd", "ignore"))
            yield Drawing(area, _label(annotation.get("category_id"), names), ignore, whole=True)
    if _are_corners(boxes):
        raise ValueError("its bboxes seem to be two corners; COCO's is x, y, width, height, with their product as area")
    yield from other_items(content, {"images", "annotations", "categories", "licenses", "info"})


def _id(value: Any) -> str:
    """An id as text: 7, "7" and 7.0 are one."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _names(categories: list[dict[str, Any]]) -> dict[str, str]:
    """The categories' names by their ids; ValueError where two share one."""
    names: dict[str, str] = {}
    for category in categories:
        name = str(category["name"] or "").strip()
        if names.setdefault(_id(category["id"]), name) != name:
            raise ValueError(f"several of its categories have the id {category['id']!r}")
    return names


def _label(category: Any, names: dict[str, str]) -> str:
    if category is None or not names:
        return UNCLASSIFIED
    if _id(category) not in names:
        raise ValueError(f"category_id {category!r} is none of its categories, {', '.join(names)}")
    return names[_id(category)] or UNCLASSIFIED


def _drawn(annotation: dict[str, Any], size: Size | None) -> BaseGeometry:
    """What is outlined, which may be empty: some programs leave it so beside a box. ValueError if off that box."""
    drawn, bbox = annotation.get("segmentation"), annotation.get("bbox")
    area = _union(list(_segments(drawn, size))) if drawn else Polygon()
    if not area.is_empty and isinstance(bbox, list) and len(bbox) == 4:
        x, y, width, height = map(number, bbox)
        box = box_of(x, y, x + width, y + height)
        corners = box_of(x, y, width, height) if width > x and height > y else box
        if not box.is_empty and not area.intersects(box) and not area.intersects(corners):
            raise ValueError("its segmentation lies off its bbox")
    return area


def _are_corners(annotations: list[dict[str, Any]]) -> bool:
    """Whether boxes are x0, y0, x1, y1: their areas say so, or, without areas, each of three or more could be.

    A box whose width is more than its x, and height more than its y, is at the upper left: at most a few can be.
    """
    corners, areas = [], []
    for annotation in annotations:
        x, y, width, height = map(number, annotation["bbox"])
        corners.append((x, y, width, height))
        area = number(annotation.get("area") or 0)
        if area > 0 and width > x and height > y and x + y > 0:
            is_box, is_corners = (
                abs(area / found - 1) < _SAME_AREA for found in (width * height, (width - x) * (height - y))
            )
            areas.append(is_corners - is_box)
    if any(areas):
        return sum(areas) > 0
    return len(set(corners)) >= _MIN_BOXES and all(width > x and height > y for x, y, width, height in corners)


def _box(annotation: dict[str, Any], size: Size | None) -> Polygon:
    """The box of an object, which CVAT's exports may turn, by degrees, clockwise, around its middle."""
    x, y, width, height = (number(value) for value in annotation["bbox"])
    if size and _leaves(x + width, y + height, size) and x < width <= size.width and y < height <= size.height:
        raise ValueError("its bbox leaves the image, but fits as two corners; COCO's is x, y, width, height")
    degrees = number((annotation.get("attributes") or {}).get("rotation") or 0)
    box = box_of(x, y, x + width, y + height)
    return rotated(box, math.radians(degrees), x + width / 2, y + height / 2) if degrees else box


def _leaves(x: float, y: float, size: Size) -> bool:
    return x > 1.01 * size.width + 1 or y > 1.01 * size.height + 1


def _segments(drawn: Any, size: Size | None) -> Iterator[BaseGeometry]:
    """The areas of a segmentation: run lengths, or polygons as flat lists or pairs, however deep they are nested."""
    if isinstance(drawn, dict):
        yield _area_of_runs(drawn, size)
    elif not isinstance(drawn, list):
        raise ValueError(f"its segmentation is {drawn!r:.40}, no list")
    elif not any(isinstance(part, (list, dict)) for part in drawn):
        yield polygon_of(list(zip(drawn[::2], drawn[1::2], strict=True)))
    elif all(isinstance(part, list) and len(part) == 2 and not isinstance(part[0], list) for part in drawn):
        yield polygon_of(drawn)
    else:
        for part in drawn:
            yield from _segments(part, size)


def _union(areas: list[BaseGeometry]) -> BaseGeometry:
    """One object of several polygons. One that lies in what the larger ones cover is a hole, one in a hole is not."""
    if len(areas) == 1:
        return areas[0]
    union: BaseGeometry = Polygon()
    valid = {part.normalize().wkb: part for area in areas for part in repaired(area)}
    for part in sorted(valid.values(), key=lambda part: float(part.area), reverse=True):
        union = union.difference(part) if union.covers(part) else union.union(part)
    return union


def _area_of_runs(drawn: dict[str, Any], size: Size | None) -> BaseGeometry:
    height, width = drawn["size"]
    stated, counts = Size(int(width), int(height)), drawn["counts"]
    if size is not None and stated != size:
        raise ValueError(f"run lengths for {stated.width} x {stated.height} px in an image of another size")
    numbers = np.array(_decode(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    ends = np.cumsum(numbers)  # of runs of background and object, in turn
    return area_of_column_runs(ends[:-1:2], numbers[1::2], stated)


def _decode(text: str) -> list[int]:
    """COCO's compressed counts: five bits a character, and from the fourth on the difference to the last but one.

    Not by pycocotools, which decodes into a whole image for each object, and trusts the counts.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("damaged run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
