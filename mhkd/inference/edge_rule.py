"""Seam merging that knows where the tiles end.

An object at a tile's edge is seen whole by one tile and cut by the next, or cut by both. Plain NMS keeps the cut
pieces as duplicates; rules by containment alone eat small neighbours. Here only boxes that touch an *inner* tile edge
(one with more slide beyond it) are taken for pieces, and pieces are compared only across tiles.

An object larger than the overlap of two tiles is put together from its pieces, with the best score among them; pieces
that score far below it do not widen the box.
"""

from __future__ import annotations

import numpy as np

from mhkd.inference.overlap import ios, iou, meeting, suppress
from mhkd.inference.tile_boxes import Merged, TileBoxes

EDGE_TOLERANCE = 0.06  # of the tile's side: how near to an inner edge a box counts as cut by it
NMS_IOU = 0.5  # two whole boxes that overlap more are one object
INSIDE_IOS = 0.6  # a piece with more than this share of its area in a whole box of another tile belongs to it
SHARED_IOS = 0.5  # two pieces that agree this well on what both tiles see are one object
EXTEND_SHARE = 0.5  # a piece that scores less than this share of its group's best is absorbed but extends nothing


def merge_by_edges(seen: TileBoxes) -> Merged:
    """Whole boxes, and what their pieces add up to; a rule as ``mhkd.inference.merge`` takes it."""
    boxes, scores, tiles = seen.boxes, seen.scores, seen.tiles[seen.tile]
    cut = _is_cut(boxes, tiles, seen.slide)
    whole = np.flatnonzero(~cut)
    whole = whole[suppress(boxes[whole], NMS_IOU)]
    pieces = np.flatnonzero(cut)

    piece_index, whole_index = meeting(boxes[pieces], boxes[whole])
    inside = ios(boxes[pieces[piece_index]], boxes[whole[whole_index]]) > INSIDE_IOS
    inside &= seen.tile[pieces[piece_index]] != seen.tile[whole[whole_index]]
    left = np.setdiff1d(pieces, pieces[piece_index[inside]])

    best, unions = [], []
    for group in _group_pieces(boxes[left], tiles[left], seen.tile[left]):
        members = left[group]
        best.append(scores[members].max())
        strong = boxes[members[scores[members] >= EXTEND_SHARE * best[-1]]]
        unions.append(np.concatenate((strong[:, :2].min(axis=0), strong[:, 2:].max(axis=0))))
    boxes, scores = np.concatenate((boxes[whole], np.reshape(unions, (-1, 4)))), np.concatenate((scores[whole], best))
    order = np.argsort(-scores, kind="stable")
    kept = order[suppress(boxes[order], NMS_IOU)]
    return boxes[kept], scores[kept]


def _is_cut(boxes: np.ndarray, tiles: np.ndarray, slide: tuple[float, ...]) -> np.ndarray:
    """(N,) bool: the box comes near an edge of its tile beyond which the slide goes on."""
    sides = np.tile(tiles[:, 2:] - tiles[:, :2], 2)
    outwards = np.array((-1.0, -1.0, 1.0, 1.0))
    inner = (np.array(slide) - tiles) * outwards > 1.0  # a tile at the border may lie on whole pixels
    near = (tiles - boxes) * outwards <= EDGE_TOLERANCE * sides
    return (inner & near).any(axis=1)


def _group_pieces(boxes: np.ndarray, tiles: np.ndarray, tile: np.ndarray) -> list[list[int]]:
    """Pieces of one object, as lists of indices: at most one piece per tile, the best agreement first.

    Two pieces are compared on the area that both tiles see: there, a cap and the rest of its object agree, while
    neighbours that touch do not.
    """
    group_of = {i: [i] for i in range(len(boxes))}
    one, other = meeting(boxes, boxes)
    one, other = one[one < other], other[one < other]
    low, high = np.maximum(tiles[one, :2], tiles[other, :2]), np.minimum(tiles[one, 2:], tiles[other, 2:])
    shared = [
        np.concatenate((np.maximum(boxes[i, :2], low), np.minimum(boxes[i, 2:], high)), axis=1) for i in (one, other)
    ]
    agreement, score = iou(*shared), ios(*shared)
    order = np.lexsort((other, one, -agreement))
    for pair in order[score[order] > SHARED_IOS]:
        group, joining = group_of[one[pair]], group_of[other[pair]]
        if group is joining or {tile[i] for i in group} & {tile[i] for i in joining}:
            continue
        group.extend(joining)
        group_of.update(dict.fromkeys(joining, group))
    return list({id(group): group for group in group_of.values()}.values())
