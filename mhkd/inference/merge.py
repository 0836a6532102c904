"""One box per object, from tiles that overlap. ``docs/seams.md`` compares the rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mhkd.inference.edge_rule import merge_by_edges
from mhkd.inference.plain_rules import centre_ownership, fuse_weighted, merge_greedily, suppress_hard, suppress_softly
from mhkd.inference.tile_boxes import Rule, TileBoxes
from mhkd.structures import SlideDetections
from preprocess.base.geometry import Region

_RULES: dict[str, Rule] = {
    "edge": merge_by_edges,
    "nms": suppress_hard,
    "nmm": merge_greedily,
    "wbf": fuse_weighted,
    "owner": centre_ownership,
    "soft": suppress_softly,
}
RULES = tuple(_RULES)
"""``edge`` (the default) knows where the tiles end; the others look at boxes alone, but ``owner`` at their centres."""


def merge_tiles(
    detections: Sequence[SlideDetections],
    tiles: Sequence[Region],
    slide: Region,
    class_names: Sequence[str],
    *,
    rule: str = "edge",
) -> SlideDetections:
    """The detections of a slide, from those of its tiles; sorted, and the same whatever the order of the tiles.

    Boxes of different classes are never merged.

    Args:
        detections: those of each tile, boxes in level-0 pixels.
        tiles: where they lie, in level-0 pixels.
        slide: the region whose borders are no seams, in level-0 pixels.
        rule: one of ``RULES``.

    Raises:
        ValueError: another rule, or ``detections`` and ``tiles`` do not go together.
    """
    if rule not in _RULES:
        raise ValueError(f"unknown merge rule {rule!r}: one of {', '.join(RULES)}")
    if len(detections) != len(tiles):
        raise ValueError(f"{len(detections)} sets of detections for {len(tiles)} tiles")
    order = sorted(range(len(tiles)), key=lambda i: (tiles[i].y, tiles[i].x))
    found = SlideDetections.concat([SlideDetections.empty(class_names), *(detections[i] for i in order)])
    tile_of = np.repeat(np.arange(len(order)), [len(detections[i]) for i in order])
    bounds = np.array([(tiles[i].x, tiles[i].y, tiles[i].x1, tiles[i].y1) for i in order]).reshape(-1, 4)
    merged = [SlideDetections.empty(class_names)]
    for label in np.unique(found.labels):
        of_class = np.flatnonzero(found.labels == label)
        boxes, scores, tile = found.boxes_l0[of_class], found.scores[of_class], tile_of[of_class]
        first = np.lexsort((tile, boxes[:, 2], boxes[:, 3], boxes[:, 0], boxes[:, 1], -scores))
        seen = TileBoxes(boxes[first], scores[first], tile[first], bounds, (slide.x, slide.y, slide.x1, slide.y1))
        boxes, scores = _RULES[rule](seen)
        merged.append(SlideDetections(boxes, scores, np.full(len(scores), label), tuple(class_names)))
    return SlideDetections.concat(merged).sort()
