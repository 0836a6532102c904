"""Proposals of a trained RPN without the work that no one sees: the same boxes as Detectron2's, in a part of the time.

Only anchors among the best of their level are decoded, and NMS ends when it has kept as many boxes as are asked for.
What it keeps depends on better boxes alone, so that it need not look at the rest; and its time grows with the square.
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

    anchors: R_l boxes of each level; logits: (N, R_l) and deltas: (N, R_l, 4) of each; image_sizes: N of (height,
    width). Gives N Instances with ``proposal_boxes`` and ``objectness_logits``, best first.
    """
    parts = []
    with torch.no_grad():
        for level, (places, score, delta) in enumerate(zip(anchors, logits, deltas, strict=True)):
            best, index = score.topk(min(rpn.pre_nms_topk[False], score.shape[1]), dim=1)
            delta = delta.gather(1, index[..., None].expand(-1, -1, 4))
            boxes = rpn.box2box_transform.apply_deltas(delta.reshape(-1, 4), places.tensor[index].reshape(-1, 4))
            parts.append((boxes.view(*index.shape, 4), best, torch.full_like(index, level)))
        boxes, scores, levels = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return [_choose(rpn, boxes[n], scores[n], levels[n], size) for n, size in enumerate(image_sizes)]


def _choose(rpn: Any, boxes: Tensor, scores: Tensor, levels: Tensor, image_size: tuple[int, int]) -> Instances:
    valid = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores)
    boxes, scores, levels = boxes[valid], scores[valid], levels[valid]
    inside = Boxes(boxes)
    inside.clip(image_size)
    order = scores.argsort(descending=True, stable=True)
    order = order[inside.nonempty(threshold=rpn.min_box_size)[order]]
    boxes = inside.tensor[order]
    kept = first_survivors(boxes, levels[order], rpn.nms_thresh, rpn.post_nms_topk[False])
    found = Instances(image_size)
    found.proposal_boxes, found.objectness_logits = Boxes(boxes[kept]), scores[order][kept]
    return found


def first_survivors(boxes: Tensor, groups: Tensor, iou: float, most: int) -> Tensor:
    """Indices (K,), K <= most, of the first boxes that NMS keeps.

    boxes: (N, 4), best first; groups: (N,), boxes of different groups are not compared.
    """
    length = 2 * most
    rank = -torch.arange(len(boxes), dtype=torch.float32, device=boxes.device)
    while True:
        head = groups[:length]
        alike = [torch.nonzero(head == group).squeeze(1) for group in head.unique()]
        parts = [index[nms(boxes[index].float(), rank[index], iou)] for index in alike]
        kept = torch.cat(parts or [head]).sort().values
        if len(kept) >= most or length >= len(boxes):
            return kept[:most]
        length *= 2
