"""Aperio ImageScope XML: layers ("Annotation") of regions with vertices in level-0 pixels."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from math import sqrt
from xml.etree.ElementTree import Element

from shapely.geometry import Polygon

from preprocess.annotations.annotation import (
    Drawing,
    SlideFrame,
    area_drawn_as,
    number,
)
from preprocess.annotations.layers import Points, drawings_of_layers, has_layers
from preprocess.base.errors import UserError

NAME = "ImageScope XML"
_KINDS = {"1": "rectangle", "2": "ellipse"}
_WITHOUT_AREA = {"3": "arrow", "4": "ruler", "5": "pin"}
# Attributes whose value is the class; that of any other attribute is a remark, and its name the class.
_CLASS_KEYS = {"description", "class", "classification", "category", "label", "name", "type"}
_SAME_MPP = 1.05
# How ImageScope shows a layer without a name, and some programs write it.
_NUMBERED = re.compile(r"\s*layer\s*\d*\s*", re.IGNORECASE)


def recognises(root: Element) -> bool:
    """Whether ``root`` holds layers in which points are called Vertex; an empty file of layers counts as well."""
    return has_layers(root) and root.find(".//vertices/v") is None


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The regions of all layers.

    Raises UserError where the file states other um/px than the slide has: its coordinates are another image's.
    """
    if slide is not None and root.get("micronsperpixel"):
        _check_mpp(number(root.attrib["micronsperpixel"]), slide)
    yield from drawings_of_layers(root, "vertex", _WITHOUT_AREA, _area, _label)


def _check_mpp(stated: float, slide: SlideFrame) -> None:
    """UserError unless ``stated`` is 0, about the um/px that is used, or about that of the slide's header."""
    known = [sqrt(slide.mpp_xy[0] * slide.mpp_xy[1])]
    for key in ("openslide.mpp-x", "aperio.MPP"):
        with contextlib.suppress(KeyError, ValueError):
            known.append(float(slide.properties[key]))
    if stated > 0 and not any(mpp / _SAME_MPP <= stated <= mpp * _SAME_MPP for mpp in known):
        raise UserError(
            f"its MicronsPerPixel is {stated:g}, but the slide has {known[0]:.4g} um/px",
            remedy="give the annotations of this slide; if its coordinates do count this slide's pixels, say so by "
            f'MicronsPerPixel="{known[0]:.4g}" in the file',
        )


def _area(kind: str, points: Points) -> Polygon:
    return area_drawn_as(_KINDS.get(kind, kind), points)


def _label(layer: Element, region: Element, number: int) -> str:
    """A layer's name, what a region or else its layer says, or the layer's number: there are no classes but these."""
    name = layer.get("name", "")
    said = ("" if _NUMBERED.fullmatch(name) else name, region.get("text"), _attribute(region), _attribute(layer))
    return next((text.strip() for text in said if text and text.strip()), f"Layer {layer.get('id') or number}")


def _attribute(element: Element) -> str | None:
    """What the first attribute that says something says."""
    for attribute in element.iterfind("attributes/attribute"):
        name, value = (attribute.get(key, "").strip() for key in ("name", "value"))
        said = value if name.lower() in _CLASS_KEYS or name.isdigit() else name
        if said:
            return said
    return None
