"""ASAP XML: annotations with numbered coordinates in level-0 pixels, and the group that each is part of."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, area_drawn_as, number, unused
from preprocess.annotations.leftovers import unknown_elements

NAME = "ASAP XML"
_WITHOUT_AREA = {"dot", "pointset", "measurement"}
_ELEMENTS = {
    *("annotations", "annotation", "coordinates", "coordinate", "annotationgroups", "group", "attributes", "attribute")
}


def recognises(root: Element) -> bool:
    """Whether ``root`` is ASAP's."""
    return root.tag == "asap_annotations"


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """Polygons, splines (through their control points), rectangles and ellipses; the label is the group's name."""
    for annotation in root.iter("annotation"):
        kind = annotation.get("type", "").strip().lower()
        if kind in _WITHOUT_AREA:
            yield unused(kind)
            continue
        group = annotation.get("partofgroup", "").strip()
        label = group if group not in ("", "None") else UNCLASSIFIED
        points = sorted(annotation.iter("coordinate"), key=lambda point: number(point.attrib["order"]))
        xy = [(number(point.attrib["x"]), number(point.attrib["y"])) for point in points]
        yield Drawing(area_drawn_as(kind, xy), label)
    yield from unknown_elements(root, _ELEMENTS)
