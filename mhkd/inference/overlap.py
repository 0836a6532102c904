"""How much boxes overlap: areas, IoU, IoS and pairs that meet. Boxes are (N, 4) float64 xyxy, or broadcast to it."""

from __future__ import annotations

import numpy as np
import shapely
import torch
from torchvision.ops import nms


def area(boxes: np.ndarray) -> np.ndarray:
    """(N,); a box that is inside out has none."""
    return np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)


def intersection(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,): what box i of both shares."""
    low, high = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    return area(np.concatenate((low, high), axis=-1))


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,): intersection over union."""
    shared = intersection(boxes, others)
    return shared / np.maximum(area(boxes) + area(others) - shared, 1e-9)


def ios(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,): intersection over the smaller of the two areas."""
    return intersection(boxes, others) / np.maximum(np.minimum(area(boxes), area(others)), 1e-9)


def meeting(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs (into boxes, into others) of those that meet, in the order of the first, then of the second."""
    one, other = shapely.STRtree(shapely.box(*others.T)).query(shapely.box(*boxes.T), predicate="intersects")
    order = np.lexsort((other, one))
    return one[order], other[order]


def suppress(boxes: np.ndarray, thresh: float) -> np.ndarray:
    """Indices that survive NMS at an IoU of ``thresh``; the boxes are best first, an earlier one wins."""
    rank = np.arange(len(boxes), 0, -1, dtype=np.float64)
    return nms(torch.from_numpy(np.ascontiguousarray(boxes)), torch.from_numpy(rank), thresh).numpy()
