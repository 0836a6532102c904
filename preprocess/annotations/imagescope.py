"""Aperio ImageScope XML: layers ("Annotation") of regions with vertices in level-0 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from shapely.geometry import Polygon

from preprocess.annotations.annotation import Drawing, SlideFrame, box_of, cut_out, ellipse_of, polygon_of

NAME = "ImageScope XML"
_RECTANGLE, _ELLIPSE = "1", "2"
_WITHOUT_AREA = {"3", "4", "5"}  # arrows, rulers, pins


def recognises(root: Element) -> bool:
    """Whether ``root`` holds layers in which points are called Vertex; an empty file of layers counts as well."""
    return root.tag == "Annotations" and root.find(".//Vertices/V") is None


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The regions of all layers. Those with NegativeROA are holes in the regions of their layer that contain them."""
    for number, layer in enumerate(root.iterfind("Annotation"), start=1):
        label = _label(layer, number)
        drawn: dict[bool, list[Polygon]] = {False: [], True: []}
        for region in layer.iterfind("Regions/Region"):
            drawn[region.get("NegativeROA") == "1"].append(_area(region))
        yield from (Drawing(area, label) for area in cut_out(drawn[False], drawn[True]))


def _area(region: Element) -> Polygon:
    kind = region.get("Type")
    points = [(float(v.attrib["X"]), float(v.attrib["Y"])) for v in region.iterfind("Vertices/Vertex")]
    if kind in _WITHOUT_AREA or len(points) < 2:
        return Polygon()
    xs, ys = zip(*points, strict=True)
    bounds = min(xs), min(ys), max(xs), max(ys)
    if kind == _ELLIPSE and len(points) <= 4:  # it is stored by the corners of its bounding box
        x0, y0, x1, y1 = bounds
        return ellipse_of((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)
    return box_of(*bounds) if kind == _RECTANGLE and len(points) == 2 else polygon_of(points)


def _label(layer: Element, number: int) -> str:
    """A layer's name, what its first attribute says, or its number: ImageScope has no classes but layers."""
    attribute = layer.find("Attributes/Attribute")
    named = attribute.attrib if attribute is not None else {}
    described = named.get("Value") if named.get("Name") == "Description" else named.get("Name")
    return (layer.get("Name") or described or "").strip() or f"Layer {layer.get('Id') or number}"
