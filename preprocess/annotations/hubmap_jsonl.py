"""HuBMAP's JSON lines of 2023: one image per line, with its polygons in pixels of that image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, image_named_like, polygon_of
from preprocess.annotations.leftovers import other_items

NAME = "HuBMAP JSON lines"


def recognises(content: Any) -> bool:
    """Whether ``content``, one line or a list of all, has an id and annotations."""
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and {"id", "annotations"} <= set(first)


def parse(content: Any, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The polygons of the line whose id is the slide's name; without a slide, of a file's only line."""
    lines = content if isinstance(content, list) else [content]
    found = image_named_like(slide, lines, "id", "each line's id must be the slide's file name without suffix")
    for annotation in found["annotations"]:
        outline, *holes = annotation["coordinates"] or [[]]
        yield Drawing(polygon_of(outline, holes), str(annotation.get("type") or UNCLASSIFIED))
    yield from other_items(found, {"id", "annotations"})
