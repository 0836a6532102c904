"""COCO JSON: objects of many images, as polygons, run lengths or boxes in pixels of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    box_of,
    image_named_like,
    polygon_of,
    scale_to,
)
from preprocess.annotations.runs import area_of_column_runs
from preprocess.base.geometry import Size

NAME = "COCO JSON"


def recognises(content: Any) -> bool:
    """Whether ``content`` has images and annotations."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def parse(content: dict[str, Any], slide: SlideFrame | None) -> Iterator[Drawing]:
    """The objects of the image that is named like the slide; without a slide, of a file's only image.

    That image is the slide or the slide reduced by a whole factor. An object with iscrowd is to be ignored.
    """
    remedy = "the image's file_name must be the slide's, whatever its suffix"
    image = image_named_like(slide, content["images"], "file_name", remedy)
    size = Size(int(image["width"]), int(image["height"])) if image.get("width") and image.get("height") else None
    scale = scale_to(slide, size) if size else 1.0
    names = {category["id"]: str(category["name"]) for category in content.get("categories") or []}
    for annotation in content["annotations"]:
        if annotation["image_id"] == image["id"]:
            area = shapely.transform(_area(annotation, size), lambda xy: xy * scale)
            label = names.get(annotation.get("category_id"), UNCLASSIFIED)
            yield Drawing(area, label, ignore=bool(annotation.get("iscrowd")))


def _area(annotation: dict[str, Any], size: Size | None) -> BaseGeometry:
    drawn = annotation.get("segmentation")
    if isinstance(drawn, dict):
        height, width = drawn["size"]
        stated, counts = Size(int(width), int(height)), drawn["counts"]
        if size is not None and stated != size:
            raise ValueError(f"run lengths for {stated.width} x {stated.height} px in an image of another size")
        numbers = np.array(_decode(counts) if isinstance(counts, str) else counts, dtype=np.int64)
        ends = np.cumsum(numbers)  # of runs of background and object, in turn
        return area_of_column_runs(ends[:-1:2], numbers[1::2], stated)
    if drawn:
        return MultiPolygon(
            [area for flat in drawn if (area := polygon_of(list(zip(flat[::2], flat[1::2], strict=True))))]
        )
    x, y, width, height = (float(value) for value in annotation["bbox"])
    return box_of(x, y, x + width, y + height)


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
