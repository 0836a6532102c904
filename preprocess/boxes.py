"""From outlined objects to the boxes of a tile, by one rule for objects that its border cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import shapely

from preprocess.annotations.annotation import Annotation, iter_polygons
from preprocess.geometry import Region

MIN_IGNORED = 0.1
"""Below this visible fraction an object leaves no box at all."""


@dataclass(frozen=True)
class Box:
    """The visible part of one object on one tile; level-0 pixels, xyxy, clipped to the tile."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float
    visible_fraction: float
    ignore: bool

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in level-0 pixels."""
        return self.x0, self.y0, self.x1, self.y1


class BoxIndex:
    """The objects of one slide, looked up by region.

    The rule: an object's box on a tile bounds what of its polygon lies in the tile. The object counts
    where at least ``min_visible`` of its area is in the tile. From ``MIN_IGNORED`` up to that its box
    is kept to be ignored, neither an object nor background. Below, it leaves no box.
    """

    def __init__(self, annotations: Sequence[Annotation], min_visible: float) -> None:
        self._annotations = annotations
        self._min_visible = min_visible
        self._tree = shapely.STRtree([annotation.polygon for annotation in annotations])

    def boxes(self, region: Region) -> list[Box]:
        """The boxes on ``region``, in the order of the annotations."""
        window = shapely.box(region.x, region.y, region.x1, region.y1)
        hits = sorted(self._tree.query(window, predicate="intersects").tolist())
        return [box for index in hits if (box := self._box(self._annotations[index], window)) is not None]

    def _box(self, annotation: Annotation, window: shapely.Polygon) -> Box | None:
        # The intersection may also hold lines and points, where the polygon only touches the border.
        visible = list(iter_polygons(annotation.polygon.intersection(window)))
        fraction = min(1.0, sum(part.area for part in visible) / annotation.polygon.area)
        if not visible or fraction < min(MIN_IGNORED, self._min_visible):
            return None
        x0, y0, x1, y1 = shapely.total_bounds(visible).tolist()
        return Box(annotation.label, x0, y0, x1, y1, fraction, ignore=fraction < self._min_visible)
