"""Pascal VOC XML: boxes in the pixels of one image, whose size it states."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from shapely.geometry import Polygon

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, SlideFrame, box_of, scale_to
from preprocess.base.geometry import Size

NAME = "Pascal VOC XML"


def recognises(root: Element) -> bool:
    """Whether ``root`` is one image's annotation."""
    return root.tag == "annotation"


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The boxes, taken as pixel edges, as labelling tools write them; a difficult object is to be ignored.

    Where the file states the size of its image, that is the slide or the slide reduced by a whole factor.
    """
    width, height = (float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    scale = scale_to(slide, Size(int(width), int(height))) if width >= 1 and height >= 1 else 1.0
    for found in root.iterfind("object"):
        area = _box(found, scale) if found.find("bndbox") is not None else Polygon()
        label = (found.findtext("name") or "").strip() or UNCLASSIFIED
        yield Drawing(area, label, ignore=(found.findtext("difficult") or "").strip() == "1")


def _box(found: Element, scale: float) -> Polygon:
    x0, y0, x1, y1 = (scale * float(found.findtext(f"bndbox/{k}") or "nan") for k in ("xmin", "ymin", "xmax", "ymax"))
    return box_of(x0, y0, x1, y1)
