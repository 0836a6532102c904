"""Proposals of a trained RPN without the work that no one sees: the same boxes as Detectron2's, in a part of the time.

The best candidates alone are decoded, and NMS ends when it has kept as many boxes as are asked for. What it keeps
depends on better boxes alone, so that it need not look at the rest; and its time grows with the square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import nms


def predict_proposals(
    rpn: Any,
    anchors: Sequence[Boxes],
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
) -> list[Instances]:
    """As ``rpn.predict_proposals`` in evaluation mode.

    Args:
        anchors: R_l boxes of each level l, in the pixels of the network's input.
        logits: (N, R_l) of each level.
        deltas: (N, R_l, 4) of each level.
        image_sizes: (height, width) of each of the N images.

    Returns:
        For each image the ``proposal_boxes``, clipped to it, and their ``objectness_logits``, best first.
    """
    parts, start = [], 0
    with torch.no_grad():
        for level, score in enumerate(logits):
            best, index = score.topk(min(rpn.pre_nms_topk[False], score.shape[1]), dim=1)
            parts.append((best, index + start, torch.full_like(index, level)))
            start += score.shape[1]
        scores, places, levels = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        boxes, moves = torch.cat([level.tensor for level in anchors]), torch.cat(list(deltas), dim=1)
        return [
            _choose(rpn, boxes, moves[n], scores[n], places[n], levels[n], size) for n, size in enumerate(image_sizes)
        ]


def _choose(
    rpn: Any,
    anchors: Tensor,
    deltas: Tensor,
    scores: Tensor,
    places: Tensor,
    levels: Tensor,
    image_size: tuple[int, int],
) -> Instances:
    """The proposals of one image: anchors (R, 4) moved by deltas (R, 4), chosen among those at ``places`` (K,)."""
    order = scores.argsort(descending=True, stable=True)
    order = order[torch.isfinite(scores[order])]
    most = rpn.post_nms_topk[False]
    length = 2 * most
    while True:
        head = order[:length]
        boxes = rpn.box2box_transform.apply_deltas(deltas[places[head]], anchors[places[head]])
        finite = torch.isfinite(boxes).all(dim=1)
        head, inside = head[finite], Boxes(boxes[finite])
        inside.clip(image_size)
        filled = inside.nonempty(threshold=rpn.min_box_size)
        head, boxes = head[filled], inside.tensor[filled]
        kept = survivors(boxes, levels[head], rpn.nms_thresh)[:most]
        if len(kept) == most or length >= len(order):
            break
        length *= 2
    found = Instances(image_size)
    found.proposal_boxes, found.objectness_logits = Boxes(boxes[kept]), scores[head[kept]]
    return found


def survivors(boxes: Tensor, groups: Tensor, iou: float) -> Tensor:
    """The boxes that non-maximum suppression keeps.

    Args:
        boxes: (N, 4) xyxy, best first.
        groups: (N,); boxes of different groups are not compared.
        iou: boxes that overlap a better one by more are dropped.

    Returns:
        Their indices (K,), in the order of ``boxes``.
    """
    rank = -torch.arange(len(boxes), dtype=torch.float32, device=boxes.device)
    alike = [torch.nonzero(groups == group).squeeze(1) for group in groups.unique()]
    parts = [index[nms(boxes[index].float(), rank[index], iou)] for index in alike]
    return torch.cat(parts or [groups]).sort().values
