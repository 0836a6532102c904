"""Merge rules that do not know where the tiles end: for comparison, and for detectors that they suit better."""

from __future__ import annotations

import numpy as np

from mhkd.inference.overlap import ios, iou, meeting, suppress
from mhkd.inference.tile_boxes import Merged, TileBoxes

NMS_IOU = 0.5
MERGE_IOS = 0.5  # the default of the library SAHI
FUSE_IOU = 0.55  # the default of the paper
SOFT_SIGMA = 0.5
SOFT_FLOOR = 0.05  # what scores less in the end is left out


def suppress_hard(seen: TileBoxes) -> Merged:
    """NMS: the best box stays, those with an IoU above 0.5 with it go. Leaves the cut pieces at seams."""
    kept = suppress(seen.boxes, NMS_IOU)
    return seen.boxes[kept], seen.scores[kept]


def merge_greedily(seen: TileBoxes) -> Merged:
    """Greedy non-maximum merging by intersection over the smaller area, at 0.5: the best box grows to the union of
    itself and those that it meets so. Takes touching and nested neighbours for one object."""
    partners = _partners(seen.boxes)
    free = np.ones(len(seen.boxes), dtype=bool)
    boxes, scores = [], []
    for i in range(len(seen.boxes)):
        if not free[i]:
            continue
        near = partners[i][free[partners[i]]]
        joined = near[ios(seen.boxes[near], seen.boxes[i]) > MERGE_IOS]
        free[joined] = free[i] = False
        members = seen.boxes[np.append(joined, i)]
        boxes.append(np.concatenate((members[:, :2].min(axis=0), members[:, 2:].max(axis=0))))
        scores.append(seen.scores[i])
    return np.reshape(boxes, (-1, 4)), np.array(scores)


def fuse_weighted(seen: TileBoxes) -> Merged:
    """Weighted box fusion (Solovyev 2021): boxes with an IoU above 0.55 with the fused one are averaged, by score.

    The score is the mean, without the paper's factor for the number of models: a tile that does not see an object is
    no vote against it.
    """
    fused, weights, sizes = np.empty((len(seen.boxes), 4)), np.empty(len(seen.boxes)), np.empty(len(seen.boxes))
    partners = _partners(seen.boxes)
    cluster_of = np.full(len(seen.boxes), -1)
    num_clusters = 0
    for i, (box, score) in enumerate(zip(seen.boxes, seen.scores, strict=True)):
        near = np.unique(cluster_of[partners[i]])
        near = near[near >= 0]
        overlap = iou(fused[near], box)
        if len(near) and overlap.max() > FUSE_IOU:
            cluster = near[overlap.argmax()]
            total = weights[cluster] + score
            fused[cluster] = (fused[cluster] * weights[cluster] + box * score) / total
            weights[cluster], sizes[cluster] = total, sizes[cluster] + 1
        else:
            cluster, num_clusters = num_clusters, num_clusters + 1
            fused[cluster], weights[cluster], sizes[cluster] = box, score, 1
        cluster_of[i] = cluster
    return fused[:num_clusters], weights[:num_clusters] / sizes[:num_clusters]


def centre_ownership(seen: TileBoxes) -> Merged:
    """Each tile keeps the boxes whose centre is nearer to its own than to any other tile's, along the longer axis.

    Nothing is compared, so it is the cheapest. An object that two tiles cut differently may be lost or doubled.
    """
    centres, middles = (0.5 * (boxes[:, :2] + boxes[:, 2:]) for boxes in (seen.boxes, seen.tiles))
    nearest = [np.abs(middles - centre).max(axis=1).argmin() for centre in centres]  # of two as near the first
    owned = np.equal(nearest, seen.tile)
    return seen.boxes[owned], seen.scores[owned]


def suppress_softly(seen: TileBoxes) -> Merged:
    """Soft-NMS (Bodla 2017, Gaussian, sigma 0.5): a box that overlaps a better one loses score; none grows."""
    scores, partners = seen.scores.copy(), _partners(seen.boxes)
    waiting = np.ones(len(scores), dtype=bool)
    for _ in range(len(scores)):
        best = int(np.where(waiting, scores, -1.0).argmax())
        waiting[best] = False
        near = partners[best][waiting[partners[best]]]
        overlap = iou(seen.boxes[near], seen.boxes[best])
        scores[near] *= np.exp(-(overlap**2) / SOFT_SIGMA)
    kept = scores >= SOFT_FLOOR
    return seen.boxes[kept], scores[kept]


def _partners(boxes: np.ndarray) -> list[np.ndarray]:
    """For each box the indices of those that meet it, itself included."""
    one, other = meeting(boxes, boxes)
    return np.split(other, np.searchsorted(one, np.arange(1, len(boxes)))) if len(boxes) else []
