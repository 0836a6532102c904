"""XML layers of regions, each a list of points, as ImageScope and HALO write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from xml.etree.ElementTree import Element

from shapely.geometry import Polygon

from preprocess.annotations.annotation import Drawing, is_set, number, unused, with_holes
from preprocess.annotations.leftovers import unknown_elements

Points = list[tuple[float, float]]

_ELEMENTS = {
    *("annotations", "annotation", "attributes", "attribute", "regions", "regionattributeheaders", "attributeheader"),
    *("region", "vertices", "vertex", "v", "plots", "comments"),
}


def has_layers(root: Element) -> bool:
    """Whether ``root`` holds layers, or nothing at all."""
    return root.tag == "annotations" and (len(root) == 0 or root.find("annotation") is not None)


def drawings_of_layers(
    root: Element,
    vertex: str,
    without_area: Mapping[str, str],
    area: Callable[[str, Points], Polygon],
    label: Callable[[Element, Element, int], str],
) -> Iterator[Drawing]:
    """The regions of all layers. Those with NegativeROA are holes in the regions of their layer that contain them.

    Args:
        root: the document, all names in lower case.
        vertex: how a point is called.
        without_area: the types of regions that are no area, and what these are.
        area: from a region's type, in lower case, and its points.
        label: from a layer, a region of it, and the layer's number, from 1.
    """
    seen: set[Element] = set()
    for count, layer in enumerate(root.iter("annotation"), start=1):
        if layer.find(".//region") is None and layer.find("regions") is None:
            yield unused("annotation without regions")
        regions: list[Drawing] = []
        holes: list[Polygon] = []
        for region in layer.iter("region"):
            seen.add(region)
            kind = region.get("type", "").strip().lower()
            if kind in without_area:
                regions.append(unused(without_area[kind]))
                continue
            drawn = area(kind, [(number(v.attrib["x"]), number(v.attrib["y"])) for v in region.iter(vertex)])
            if is_set(region.get("negativeroa"), "NegativeROA"):
                holes.append(drawn)
            else:
                regions.append(Drawing(drawn, label(layer, region, count)))
        yield from with_holes(regions, holes)
    yield from (unused("region in no layer") for region in root.iter("region") if region not in seen)
    yield from unknown_elements(root, _ELEMENTS)
