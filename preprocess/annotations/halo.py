"""HALO's .annotations: XML layers of regions whose points are called V, in level-0 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from shapely.geometry import Polygon

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, box_of, ellipse_within, polygon_of
from preprocess.annotations.layers import Points, drawings_of_layers, has_layers

NAME = "HALO annotations"
_WITHOUT_AREA = {kind: kind for kind in ("ruler", "arrow", "pin", "point", "text")}


def recognises(root: Element) -> bool:
    """Whether ``root`` holds layers in which points are called V."""
    return has_layers(root) and root.find(".//vertices/v") is not None


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The regions of all layers; the label is the layer's name. NegativeROA marks holes, as in ImageScope."""
    return drawings_of_layers(root, "v", _WITHOUT_AREA, _area, _label)


def _area(kind: str, points: Points) -> Polygon:
    if kind in ("rectangle", "ellipse") and len(points) == 2:  # two opposite corners
        return (box_of if kind == "rectangle" else ellipse_within)(*points[0], *points[1])
    return polygon_of(points)


def _label(layer: Element, region: Element, number: int) -> str:
    return layer.get("name", "").strip() or UNCLASSIFIED
