"""From outlined objects to the boxes of a tile, by one rule for cut, tiny and doubly outlined objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from preprocess.annotations.annotation import Annotation, iter_polygons
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region

SAME_IOU = 0.5
"""From this overlap on two outlines of one class are one object: the overlap at which detections are matched."""


@dataclass(frozen=True)
class BoxRule:
    """What an object leaves on a tile that shows a part of it.

    Its box bounds what of its polygon lies in the tile, clipped at the tile's border, in float.

    * Cut objects: with at least ``min_visible`` of its area in the tile it counts as an object. From
      ``min_ignored`` up to that the box is to be ignored, neither object nor background (``iscrowd``).
      Below, it leaves no box.
    * Slivers: a box with a side shorter than ``min_side_l0`` (level-0 pixels) is to be ignored, however
      much of its object it shows, since nobody can see it.
    * Regions marked to be ignored leave such a box wherever they are visible at all, and so do objects that are
      wider or higher than the tile: what lies inside of one is no background.

    Raises UserError for fractions outside 0 to 1 and negative sides.
    """

    min_visible: float = 0.5
    min_ignored: float = 0.1
    min_side_l0: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_visible", "min_ignored"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name):g} is not between 0 and 1")
        if not self.min_side_l0 >= 0:
            raise UserError(f"a box cannot have a side of {self.min_side_l0:g}")


@dataclass(frozen=True)
class Box:
    """The visible part of one object, that of ``number``, on one tile; level-0 pixels, xyxy, clipped to the tile.

    ``score`` is its object's.
    """

    label: str
    x0: float
    y0: float
    x1: float
    y1: float
    visible_fraction: float
    ignore: bool
    number: int = 0
    score: float = 1.0

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in level-0 pixels."""
        return self.x0, self.y0, self.x1, self.y1


class BoxIndex:
    """The objects of one slide, looked up by region; which boxes they leave is for ``rule`` to say."""

    def __init__(self, annotations: Sequence[Annotation], rule: BoxRule) -> None:
        self._annotations = annotations
        self._rule = rule
        self._tree = shapely.STRtree([annotation.polygon for annotation in annotations])

    def boxes(self, region: Region) -> list[Box]:
        """The boxes on ``region``, in the order of the annotations."""
        window = shapely.box(region.x, region.y, region.x1, region.y1)
        hits = sorted(self._tree.query(window, predicate="intersects").tolist())
        return [box for number in hits if (box := self._box(number, window, region)) is not None]

    def _box(self, number: int, window: shapely.Polygon, region: Region) -> Box | None:
        annotation = self._annotations[number]
        # The intersection may also hold lines and points, where the polygon only touches the border.
        visible = list(iter_polygons(annotation.polygon.intersection(window)))
        fraction = min(1.0, sum(part.area for part in visible) / annotation.polygon.area)
        # Of what is larger than a tile no tile shows much.
        always = annotation.ignore or is_larger(annotation, region.width, region.height)
        needed = 0.0 if always else min(self._rule.min_ignored, self._rule.min_visible)
        if not visible or fraction < needed:
            return None
        x0, y0, x1, y1 = shapely.total_bounds(visible).tolist()
        small = min(x1 - x0, y1 - y0) < self._rule.min_side_l0
        ignore = annotation.ignore or small or fraction < self._rule.min_visible
        return Box(annotation.label, x0, y0, x1, y1, fraction, ignore, number, annotation.score)


def is_larger(annotation: Annotation, width: float, height: float) -> bool:
    """Whether ``annotation`` is wider or higher than a tile of ``width`` x ``height`` level-0 pixels."""
    x0, y0, x1, y1 = annotation.polygon.bounds
    return bool(x1 - x0 > width or y1 - y0 > height)


def remove_duplicates(annotations: Sequence[Annotation], same_iou: float = SAME_IOU) -> list[Annotation]:
    """``annotations`` without those that outline an object again, in their order.

    Two outlines of one class whose polygons have an IoU of ``same_iou`` or more are one object: drawn twice, or once
    around the capsule and once around the tuft. The larger one stays, and so do all regions to be ignored.
    """
    polygons = [annotation.polygon for annotation in annotations]
    tree = shapely.STRtree(polygons)
    kept = np.zeros(len(polygons), bool)
    for index in sorted(range(len(polygons)), key=lambda i: (-polygons[i].area, i)):
        this = annotations[index]
        near = tree.query(this.polygon, predicate="intersects")
        kept[index] = this.ignore or not any(
            annotations[rival].label == this.label
            and not annotations[rival].ignore
            and _iou(this.polygon, polygons[rival]) >= same_iou
            for rival in near[kept[near]].tolist()
        )
    return [annotations[index] for index in np.flatnonzero(kept).tolist()]


def _iou(one: shapely.Polygon, other: shapely.Polygon) -> float:
    shared = one.intersection(other).area
    return float(shared / (one.area + other.area - shared))
