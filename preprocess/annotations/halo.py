"""HALO's .annotations: XML layers of regions whose points are called V, in level-0 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, area_drawn_as
from preprocess.annotations.layers import drawings_of_layers, has_layers

NAME = "HALO annotations"
_WITHOUT_AREA = {kind: kind for kind in ("ruler", "arrow", "pin", "point", "text")}


def recognises(root: Element) -> bool:
    """Whether ``root`` holds layers in which points are called V."""
    return has_layers(root) and root.find(".//vertices/v") is not None


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The regions of all layers; the label is the layer's name. NegativeROA marks holes, as in ImageScope."""
    return drawings_of_layers(root, "v", _WITHOUT_AREA, area_drawn_as, _label)


def _label(layer: Element, region: Element, number: int) -> str:
    return layer.get("name", "").strip() or UNCLASSIFIED
