"""What every annotation format is read into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

UNCLASSIFIED = "Unclassified"
"""The label of an object that its author gave no class."""

# A part smaller than this fraction of the largest one is a slip of the pen, not an object.
_MIN_PART = 0.01


@dataclass(frozen=True)
class Annotation:
    """One outlined object: a valid ``polygon`` with an area, in level-0 pixels, and its ``label``."""

    polygon: Polygon
    label: str


def iter_polygons(geometry: BaseGeometry) -> Iterator[Polygon]:
    """The areas in any geometry, nested or not; points and lines have none."""
    if isinstance(geometry, Polygon):
        if geometry.area > 0:
            yield geometry
    else:
        for part in getattr(geometry, "geoms", ()):
            yield from iter_polygons(part)


def to_annotations(geometry: BaseGeometry, label: str) -> list[Annotation]:
    """One annotation for each object drawn in ``geometry``.

    The parts of a multi-polygon are objects of their own, since one box around two of them would be
    wrong. An outline that crosses itself is repaired and stays one object, its largest part. Parts
    below 1 % of the largest are dropped.
    """
    drawn = geometry.geoms if isinstance(geometry, MultiPolygon) else [geometry]
    objects = [max(parts, key=_area) for parts in map(_repaired, drawn) if parts]
    smallest = _MIN_PART * max(map(_area, objects), default=0.0)
    return [Annotation(polygon, label) for polygon in objects if _area(polygon) >= smallest]


def _repaired(geometry: BaseGeometry) -> list[Polygon]:
    valid = geometry if geometry.is_valid else shapely.make_valid(geometry)
    return list(iter_polygons(valid))


def _area(polygon: Polygon) -> float:
    return float(polygon.area)
