"""Pascal VOC XML: boxes in the pixels of one image, whose size it states."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    box_of,
    is_set,
    number,
    rotated,
    scale_to,
    stated_size,
    unused,
)
from preprocess.annotations.leftovers import unknown_elements

NAME = "Pascal VOC XML"
_OF_IMAGE = {"object", "folder", "filename", "path", "size"}
_ELEMENTS = {"object", "name", "bndbox", "robndbox", "source", "owner", "size", "part", "actions", "attributes"}


def recognises(root: Element) -> bool:
    """Whether ``root`` is one image's annotation, with objects or the name or size of the image."""
    return root.tag == "annotation" and any(child.tag in _OF_IMAGE for child in root)


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The boxes, upright or rotated (``robndbox``), taken as pixel edges; a difficult object is to be ignored.

    Where the file states the size of its image, that is the slide or the slide reduced by a whole factor.
    """
    size = stated_size(root.findtext("size/width"), root.findtext("size/height"))
    scale = scale_to(slide, size) if size else 1.0
    for found in root.iter("object"):
        label = (found.findtext("name") or "").strip() or UNCLASSIFIED
        ignore = is_set(found.findtext("difficult"), "difficult")
        if found.find("bndbox") is not None:
            x0, y0, x1, y1 = _numbers(found, "bndbox", ("xmin", "ymin", "xmax", "ymax"), scale)
            yield Drawing(box_of(x0, y0, x1, y1), label, ignore)
        elif found.find("robndbox") is not None:
            x, y, wide, high = _numbers(found, "robndbox", ("cx", "cy", "w", "h"), scale)
            (angle,) = _numbers(found, "robndbox", ("angle",))
            upright = box_of(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
            yield Drawing(rotated(upright, angle, x, y), label, ignore)
        else:
            yield unused("object without bndbox")
    if root.find(".//object") is None:
        yield from unknown_elements(root, _ELEMENTS)


def _numbers(found: Element, box: str, keys: tuple[str, ...], scale: float = 1.0) -> list[float]:
    """The numbers of a box; what is missing is no number, and refused with the coordinates."""
    return [scale * number(found.findtext(f"{box}/{key}") or math.nan) for key in keys]
