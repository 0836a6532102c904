"""What a merge rule takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TileBoxes:
    """All boxes of one class on a slide, best first, with the tiles that they were detected in; level-0 pixels, xyxy.

    Attributes:
        boxes: (N, 4).
        scores: (N,).
        tile: (N,) index into ``tiles``.
        tiles: (T, 4), all that were searched, row by row from the top.
        slide: what was scanned; its borders are no seams.
    """

    boxes: np.ndarray
    scores: np.ndarray
    tile: np.ndarray
    tiles: np.ndarray
    slide: tuple[float, float, float, float]


Merged = tuple[np.ndarray, np.ndarray]
"""(M, 4) boxes and (M,) scores, one for each object."""

Rule = Callable[[TileBoxes], Merged]
"""The same each time."""
