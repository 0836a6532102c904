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

    A box touches every cell that it overlaps, so one smaller than a cell still has one. This is FGD's scale mask S. It
    is worked out on the device of ``boxes``, which is never waited for.
    """
    return torch.stack([_inverse_areas(image_boxes.detach().double(), height, width) for image_boxes in boxes])


def _inverse_areas(boxes: Tensor, height: int, width: int) -> Tensor:
    """(H, W) of the boxes (G, 4) of one image."""
    first = boxes[:, :2].floor().clamp(min=0)
    end = torch.maximum(boxes[:, 2:].ceil(), first + 1)
    in_columns, columns = _touched(first[:, 0], end[:, 0], width)
    in_rows, rows = _touched(first[:, 1], end[:, 1], height)
    touched = in_rows[:, :, None] & in_columns[:, None]
    shares = touched / (columns * rows)[:, None, None]
    return torch.cat([shares, shares.new_zeros(1, height, width)]).amax(dim=0)  # the zeros: an image without boxes


def _touched(first: Tensor, end: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Along one axis which of ``length`` cells lie from ``first`` to before ``end``, (G, length), and how many (G,)."""
    end = end.clamp(max=length)
    cells = torch.arange(length, device=first.device)
    return (cells >= first[:, None]) & (cells < end[:, None]), (end - first).clamp(min=1)
