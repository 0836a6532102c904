"""One box per object, from tiles that overlap: seam merging that knows where the tiles end.

An object at a tile's edge is seen whole by one tile and cut by the next, or cut by both. Plain NMS keeps the cut
pieces as duplicates; rules by containment alone eat small neighbours. Here only boxes that touch an *inner* tile edge
(one with more slide beyond it) are taken for pieces, and pieces are compared only across tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
import torch
from torchvision.ops import nms

from mhkd.structures import SlideDetections
from preprocess.geometry import Region

RULES = ("edge", "nms")

EDGE_TOLERANCE = 0.06  # of the tile's side: how near to an inner edge a box counts as cut by it
NMS_IOU = 0.5  # two whole boxes that overlap more are one object
INSIDE_IOS = 0.6  # a piece with more than this share of its area in a whole box of another tile belongs to it
SHARED_IOS = 0.5  # two pieces that agree this well on what both tiles see are one object
EXTEND_SHARE = 0.5  # a piece that scores less than this share of its group's best is absorbed but extends nothing


def merge_tiles(
    detections: Sequence[SlideDetections],
    tiles: Sequence[Region],
    slide: Region,
    class_names: Sequence[str],
    *,
    rule: str = "edge",
) -> SlideDetections:
    """The detections of a slide, from those of its tiles; sorted, and the same whatever the order of the tiles.

    detections[i] are those found in tiles[i], all in level-0 pixels; ``slide`` is the region whose borders are no
    seams. Boxes of different classes are never merged. rule: ``edge`` (the default, see above) or ``nms`` (IoU 0.5
    over all boxes). An object larger than the overlap of two tiles is put together from its pieces, with the best
    score among them; pieces that score far below it do not widen the box.
    """
    if rule not in RULES:
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
        boxes, scores, tile = found.boxes_l0[of_class], found.scores[of_class], bounds[tile_of[of_class]]
        first = np.lexsort((tile[:, 0], tile[:, 1], boxes[:, 2], boxes[:, 3], boxes[:, 0], boxes[:, 1], -scores))
        boxes, scores, tile = boxes[first], scores[first], tile[first]
        if rule == "edge":
            boxes, scores = _join_pieces(boxes, scores, tile, slide)
        kept = _nms(boxes, scores)
        merged.append(SlideDetections(boxes[kept], scores[kept], np.full(len(kept), label), tuple(class_names)))
    return SlideDetections.concat(merged).sort()


def _join_pieces(
    boxes: np.ndarray, scores: np.ndarray, tiles: np.ndarray, slide: Region
) -> tuple[np.ndarray, np.ndarray]:
    """Whole boxes, and what their pieces add up to. All arrays are best first; tiles: (N, 4), of each box."""
    cut = _is_cut(boxes, tiles, slide)
    whole = np.flatnonzero(~cut)
    whole = whole[_nms(boxes[whole], scores[whole])]
    pieces = np.flatnonzero(cut)

    piece_index, whole_index = _overlapping(boxes[pieces], boxes[whole])
    inside = _ios(boxes[pieces[piece_index]], boxes[whole[whole_index]]) > INSIDE_IOS
    inside &= (tiles[pieces[piece_index]] != tiles[whole[whole_index]]).any(axis=1)
    left = np.setdiff1d(pieces, pieces[piece_index[inside]])

    best, unions = [], []
    for group in _group_pieces(boxes[left], tiles[left]):
        members = left[group]
        best.append(scores[members].max())
        strong = boxes[members[scores[members] >= EXTEND_SHARE * best[-1]]]
        unions.append(np.concatenate((strong[:, :2].min(axis=0), strong[:, 2:].max(axis=0))))
    return np.concatenate((boxes[whole], np.reshape(unions, (-1, 4)))), np.concatenate((scores[whole], best))


def _is_cut(boxes: np.ndarray, tiles: np.ndarray, slide: Region) -> np.ndarray:
    """(N,) bool: the box comes near an edge of its tile beyond which the slide goes on."""
    width, height = tiles[:, 2] - tiles[:, 0], tiles[:, 3] - tiles[:, 1]
    border = np.array((slide.x, slide.y, slide.x1, slide.y1))
    outwards = np.array((-1.0, -1.0, 1.0, 1.0))
    inner = (border - tiles) * outwards > 1.0  # a tile at the border may lie on whole pixels
    near = (tiles - boxes) * outwards <= EDGE_TOLERANCE * np.stack((width, height, width, height), axis=1)
    return (inner & near).any(axis=1)


def _group_pieces(boxes: np.ndarray, tiles: np.ndarray) -> list[list[int]]:
    """Pieces of one object, as lists of indices: at most one piece per tile, the best agreement first.

    Two pieces are compared on the area that both tiles see: there, a cap and the rest of its object agree, while
    neighbours that touch do not.
    """
    group_of = {i: [i] for i in range(len(boxes))}
    one, other = _overlapping(boxes, boxes)
    one, other = one[one < other], other[one < other]
    low, high = np.maximum(tiles[one, :2], tiles[other, :2]), np.minimum(tiles[one, 2:], tiles[other, 2:])
    seen = [
        np.concatenate((np.maximum(boxes[i, :2], low), np.minimum(boxes[i, 2:], high)), axis=1) for i in (one, other)
    ]
    agreement, score = _iou(*seen), _ios(*seen)
    order = np.lexsort((other, one, -agreement))
    for pair in order[score[order] > SHARED_IOS]:
        group, joining = group_of[one[pair]], group_of[other[pair]]
        if group is joining or {tuple(tiles[i]) for i in group} & {tuple(tiles[i]) for i in joining}:
            continue
        group.extend(joining)
        group_of.update(dict.fromkeys(joining, group))
    return list({id(group): group for group in group_of.values()}.values())


def _nms(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices that survive NMS at NMS_IOU, best first; among equal scores the earlier box wins."""
    rank = np.empty(len(scores))
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(scores), 0, -1)
    return nms(torch.from_numpy(boxes), torch.from_numpy(rank), NMS_IOU).numpy()


def _overlapping(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs (into boxes, into others) of those that meet."""
    one, other = shapely.STRtree(shapely.box(*others.T)).query(shapely.box(*boxes.T), predicate="intersects")
    return one, other


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)


def _intersection(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    return _area(np.concatenate((low, high), axis=1))


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    shared = _intersection(boxes, others)
    return shared / np.maximum(_area(boxes) + _area(others) - shared, 1e-9)


def _ios(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over the smaller of the two areas."""
    return _intersection(boxes, others) / np.maximum(np.minimum(_area(boxes), _area(others)), 1e-9)
