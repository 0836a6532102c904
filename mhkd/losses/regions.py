"""Where the objects are on a pyramid level, for losses that look at foreground and background apart.

Shapes: boxes one (G, 4) tensor an image, xyxy in cells of the level (pixels of the model's input divided by the
level's stride); maps (N, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def inverse_areas(boxes: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Per cell 1 / (number of cells) of the smallest box that touches it, 0 outside every box: (N, H, W) float64.

    A box touches every cell that it overlaps, so one smaller than a cell still has one. This is FGD's scale mask S.
    """
    maps = torch.zeros(len(boxes), height, width, dtype=torch.float64)
    for cells, image_boxes in zip(maps, boxes, strict=True):
        for x0, y0, x1, y1 in image_boxes.detach().cpu().tolist():
            left, top = max(0, int(x0)), max(0, int(y0))
            right, bottom = min(width, max(left + 1, _ceil(x1))), min(height, max(top + 1, _ceil(y1)))
            if right > left and bottom > top:
                region = cells[top:bottom, left:right]
                region.clamp_(min=1.0 / ((right - left) * (bottom - top)))
    return maps


def _ceil(value: float) -> int:
    return -int(-value // 1)
