"""HALO's .annotations: XML layers of regions whose points are called V, in level-0 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from shapely.geometry import Polygon

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, box_of, cut_out, ellipse_of, polygon_of

NAME = "HALO annotations"
_WITHOUT_AREA = {"Ruler", "Arrow", "Pin", "Point", "Text"}


def recognises(root: Element) -> bool:
    """Whether ``root`` holds layers in which points are called V."""
    return root.tag == "Annotations" and root.find(".//Vertices/V") is not None


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The regions of all layers; the label is the layer's name. NegativeROA marks holes, as in ImageScope."""
    for layer in root.iterfind("Annotation"):
        drawn: dict[bool, list[Polygon]] = {False: [], True: []}
        for region in layer.iterfind("Regions/Region"):
            drawn[region.get("NegativeROA") in ("1", "True")].append(_area(region))
        label = (layer.get("Name") or "").strip() or UNCLASSIFIED
        yield from (Drawing(area, label) for area in cut_out(drawn[False], drawn[True]))


def _area(region: Element) -> Polygon:
    kind = region.get("Type")
    points = [(float(v.attrib["X"]), float(v.attrib["Y"])) for v in region.iterfind("Vertices/V")]
    if kind in _WITHOUT_AREA:
        return Polygon()
    if kind in ("Rectangle", "Ellipse") and len(points) == 2:  # two opposite corners
        (x0, y0), (x1, y1) = points
        if kind == "Rectangle":
            return box_of(x0, y0, x1, y1)
        return ellipse_of((x0 + x1) / 2, (y0 + y1) / 2, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    return polygon_of(points)
