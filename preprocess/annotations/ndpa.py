"""Hamamatsu's NDPA: XML of what was drawn in NDP.view, in nanometres from the middle of the glass slide."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np
import shapely

from preprocess.annotations.annotation import (
    UNCLASSIFIED,
    Drawing,
    SlideFrame,
    ellipse_of,
    number,
    polygon_of,
    unused,
)
from preprocess.base.errors import UserError

NAME = "NDPA"
_NM_PER_UM = 1000


def recognises(root: Element) -> bool:
    """Whether ``root`` holds views of NDP.view."""
    return root.tag == "annotations" and root.find("ndpviewstate") is not None


def parse(root: Element, slide: SlideFrame | None) -> Iterator[Drawing]:
    """Closed outlines and circles; the label is the title.

    Raises UserError where the slide is missing or does not say where its middle is on the glass.
    """
    scale, middle = _frame(slide)
    for view in root.iterfind("ndpviewstate"):
        unit = (view.findtext("coordformat") or "nanometers").strip().lower()
        if not unit.startswith("nanomet"):
            raise ValueError(f"its coordinates are in {unit}")
        label = (view.findtext("title") or "").strip() or UNCLASSIFIED
        for annotation in view.iter("annotation"):
            kind = annotation.get("type", "").strip().lower()
            if kind == "circle":
                x, y, radius = (number(annotation.findtext(key)) for key in ("x", "y", "radius"))
                area = ellipse_of(x, y, radius, radius)
            elif annotation.find("pointlist") is None:
                yield unused(kind or "annotation without points")
                continue
            elif (annotation.findtext("closed") or "1").strip() == "0":
                yield unused(f"open {kind}")
                continue
            else:
                points = annotation.iterfind("pointlist/point")
                area = polygon_of([(point.findtext("x"), point.findtext("y")) for point in points])
            yield Drawing(shapely.transform(area, lambda nm: nm / scale + middle), label)
    yield from (unused(f"unknown element {child.tag}") for child in root if child.tag != "ndpviewstate")


def _frame(slide: SlideFrame | None) -> tuple[np.ndarray, np.ndarray]:
    """Nanometres per level-0 pixel, and the pixel in the middle of the glass slide, each along x and y."""
    if slide is None:
        raise UserError("nanometres need their slide", remedy="read the file together with the slide")
    try:
        offset, mpp = (
            np.array([float(slide.properties[key.format(axis)]) for axis in axes])
            for key, axes in (("hamamatsu.{}OffsetFromSlideCentre", "XY"), ("openslide.mpp-{}", "xy"))
        )
    except (KeyError, ValueError) as error:
        raise UserError(
            "an NDPA counts from the middle of the glass, and the slide does not say where that is",
            remedy="give the NDPI or VMS slide itself, or export the annotations in pixels, as GeoJSON",
        ) from error
    return mpp * _NM_PER_UM, np.array([slide.size.width, slide.size.height]) / 2 - offset / (mpp * _NM_PER_UM)
