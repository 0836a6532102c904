"""Many discs on a large slide, what a perfect detector sees of them through tiles, and where the seams are."""

from __future__ import annotations

import numpy as np

from mhkd.evaluation.matching import Counts, match_all
from mhkd.evaluation.scored_slide import GroundTruth
from mhkd.structures import SlideDetections
from preprocess.base.geometry import Region

NAMES = ("glomerulus",)


def scatter_discs(num: int, side: float, radii: tuple[float, float], seed: int) -> np.ndarray:
    """Boxes (num, 4) of discs at random places of a square slide; they may touch, none overlaps another."""
    rng = np.random.default_rng(seed)
    centres, radius = np.empty((num, 2)), np.empty(num)
    placed = 0
    while placed < num:
        r = rng.uniform(*radii)
        x, y = rng.uniform(r, side - r, 2)
        if (np.hypot(centres[:placed, 0] - x, centres[:placed, 1] - y) >= radius[:placed] + r).all():
            centres[placed], radius[placed] = (x, y), r
            placed += 1
    return np.concatenate((centres - radius[:, None], centres + radius[:, None]), axis=1)


def see_discs(discs: np.ndarray, tile: Region, smallest_share: float = 0.02) -> SlideDetections:
    """The bounds of what each disc (its box) shows in ``tile``, if that is more than a sliver; less scores less."""
    near = discs[(discs[:, :2] < (tile.x1, tile.y1)).all(axis=1) & (discs[:, 2:] > (tile.x, tile.y)).all(axis=1)]
    centre, radius = (near[:, :2] + near[:, 2:]) / 2, (near[:, 2:] - near[:, :2]) / 2
    low, high = np.maximum(near[:, :2], (tile.x, tile.y)), np.minimum(near[:, 2:], (tile.x1, tile.y1))
    # Along one axis a disc reaches as far as it does where it is widest within the tile's span of the other axis.
    off = (np.clip(centre, low, high) - centre)[:, ::-1]
    half = np.sqrt(np.maximum(radius**2 - off**2, 0.0))
    boxes = np.concatenate((np.maximum(low, centre - half), np.minimum(high, centre + half)), axis=1)
    share = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0) / (2 * radius), axis=1)
    visible = share > smallest_share
    scores = 0.97 - 0.3 * (1 - share[visible])
    return SlideDetections(boxes[visible], scores, np.zeros(len(scores)), NAMES)


def meets_seam(boxes: np.ndarray, tiles: list[Region], slide: Region) -> np.ndarray:
    """(N,) bool: a tile's edge that is no border of the slide runs through the box."""
    crossed = np.zeros(len(boxes), dtype=bool)
    for axis, first, last in ((0, slide.x, slide.x1), (1, slide.y, slide.y1)):
        edges = {(tile.x, tile.y)[axis] for tile in tiles} | {(tile.x1, tile.y1)[axis] for tile in tiles}
        lines = np.array(sorted(edge for edge in edges if first < edge < last))
        crossed |= np.searchsorted(lines, boxes[:, axis + 2]) > np.searchsorted(lines, boxes[:, axis])
    return crossed


def counts_where(discs: np.ndarray, merged: SlideDetections, true: np.ndarray, found: np.ndarray) -> Counts:
    """Counts at IoU 0.5 among the objects that ``true`` marks, and the false detections that ``found`` marks."""
    gt = GroundTruth.of(discs, NAMES * len(discs), NAMES)
    matches = match_all({"s": gt}, {"s": merged})
    hits = true[matches.gt_index[matches.correct]].sum()
    return Counts(int(hits), int(found[matches.pred_index[~matches.correct]].sum()), int(true.sum()))
