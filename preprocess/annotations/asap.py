"""ASAP XML: annotations with numbered coordinates in level-0 pixels, and the group that each is part of."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from shapely.geometry import Polygon

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, polygon_of

NAME = "ASAP XML"
_WITHOUT_AREA = {"Dot", "PointSet", "Measurement"}


def recognises(root: Element) -> bool:
    """Whether ``root`` is ASAP's."""
    return root.tag == "ASAP_Annotations"


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """Polygons, splines (through their control points) and rectangles; the label is the group's name."""
    for annotation in root.iterfind("Annotations/Annotation"):
        group = (annotation.get("PartOfGroup") or "").strip()
        label = group if group not in ("", "None") else UNCLASSIFIED
        points = sorted(annotation.iterfind("Coordinates/Coordinate"), key=lambda point: float(point.attrib["Order"]))
        xy = [(_number(point, "X"), _number(point, "Y")) for point in points]
        yield Drawing(Polygon() if annotation.get("Type") in _WITHOUT_AREA else polygon_of(xy), label)


def _number(point: Element, axis: str) -> float:
    # Under some locales ASAP writes a decimal comma.
    return float(point.attrib[axis].replace(",", "."))
