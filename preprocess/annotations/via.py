"""VGG Image Annotator (versions 1 and 2), JSON and CSV: regions in the pixels of images of which no size is stated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from shapely.geometry import Polygon

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    box_of,
    ellipse_of,
    image_named_like,
    number,
    polygon_of,
    rotated,
    unused,
)
from preprocess.base.text_table import column_names, parse_text_table

NAME = "VIA file"
_PROJECT = "_via_img_metadata"
_HEADER = ("filename", "region_shape_attributes", "region_attributes")
# Which of several attributes is the class; of one alone it is that.
_CLASS_KEYS = ("class", "label", "name", "category", "type")


def recognises(content: Any) -> bool:
    """Whether ``content`` is a project, or has a file name and regions for each image, or is a table of regions."""
    if isinstance(content, str):
        return set(_HEADER) <= set(map(_column, column_names(content, _is_known)))
    images = content.get(_PROJECT, content) if isinstance(content, dict) else None
    return isinstance(images, dict) and (
        _PROJECT in content
        or any(isinstance(image, dict) and {"filename", "regions"} <= set(image) for image in images.values())
    )


def parse(content: Any, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The regions of the image that is named like the slide; without a slide, of a file's only image.

    The label is the region's attribute; of several the one that is called class, label, name, category or type.
    """
    images = _images_of_table(content) if isinstance(content, str) else list(content.get(_PROJECT, content).values())
    found = image_named_like(slide, images, "filename", "the filename must be the slide's, whatever its suffix")
    regions = found["regions"]
    for region in regions.values() if isinstance(regions, dict) else regions:
        shape = region["shape_attributes"]
        kind = str(shape["name"]).lower()
        if kind in _AREAS:
            yield Drawing(_AREAS[kind](shape), _label(region.get("region_attributes") or {}))
        else:
            yield unused(kind)


def _images_of_table(text: str) -> list[dict[str, Any]]:
    """The images of a table with a row for each region, and one without a shape for an image without regions."""
    table = parse_text_table(text, _is_known).rename(columns=_column)
    images: dict[str, dict[str, Any]] = {}
    for name, shape, attributes in table[list(_HEADER)].itertuples(index=False):
        image = images.setdefault(name, {"filename": name, "regions": []})
        drawn = json.loads(shape)  # {} where there is none, so that a row without it is damaged
        if drawn:
            image["regions"].append({"shape_attributes": drawn, "region_attributes": json.loads(attributes)})
    return list(images.values())


def _column(name: str) -> str:
    """The name of a column; version 1 begins the first one with #."""
    return name.lower().lstrip("#")


def _is_known(name: str) -> bool:
    return _column(name) in _HEADER


def _polygon(shape: dict[str, Any]) -> Polygon:
    return polygon_of(list(zip(shape["all_points_x"], shape["all_points_y"], strict=True)))


def _rectangle(shape: dict[str, Any]) -> Polygon:
    x, y, width, height = (number(shape[key]) for key in ("x", "y", "width", "height"))
    return box_of(x, y, x + width, y + height)


def _circle(shape: dict[str, Any]) -> Polygon:
    x, y, radius = (number(shape[key]) for key in ("cx", "cy", "r"))
    return ellipse_of(x, y, radius, radius)


def _ellipse(shape: dict[str, Any]) -> Polygon:
    """An ellipse, in version 2 turned by radians, clockwise."""
    x, y, radius_x, radius_y = (number(shape[key]) for key in ("cx", "cy", "rx", "ry"))
    return rotated(ellipse_of(x, y, radius_x, radius_y), number(shape.get("theta") or 0), x, y)


_AREAS: dict[str, Callable[[dict[str, Any]], Polygon]] = {
    "polygon": _polygon,
    "rect": _rectangle,
    "circle": _circle,
    "ellipse": _ellipse,
}


def _label(attributes: dict[str, Any]) -> str:
    said = {key.strip().lower(): _text(value) for key, value in attributes.items()}
    said = {key: text for key, text in said.items() if text}
    return next((said[key] for key in _CLASS_KEYS if key in said), next(iter(said.values()), UNCLASSIFIED))


def _text(value: Any) -> str:
    """An attribute as text; of check boxes those that are checked."""
    if isinstance(value, dict):
        return ": ".join(str(key) for key, checked in value.items() if checked)
    return "" if value is None else str(value).strip()
