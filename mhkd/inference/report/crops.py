"""A small picture of one detection with some of what lies around it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from preprocess.base.geometry import Region, Size, px_to_l0
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide

CROP_PX = 112
_AROUND = 1.3  # of the longer side of the box
_LEAST_UM = 20.0


def crop_detection(
    slide: Slide, box_l0: Sequence[float], color: tuple[int, int, int], *, side_px: int = CROP_PX
) -> Image:
    """The box (xyxy, level-0 px) outlined in the middle of a square of the glass, uint8 RGB (side_px, side_px, 3).

    The square is 1.3 times as wide as the box's longer side in micrometres.

    Raises:
        UserError: the slide cannot be read there.
    """
    region = square_around(box_l0, slide.mpp_xy, around=_AROUND, least_um=_LEAST_UM)
    size = Size(side_px, side_px)
    picture = slide.read(region, size)
    left, top, right, bottom = np.rint(region.to_px(np.array([box_l0]), size)[0]).astype(int).tolist()
    cv2.rectangle(picture, (left, top), (right, bottom), color, 1)
    return picture


def square_around(
    box_l0: Sequence[float] | np.ndarray, mpp_xy: tuple[float, float], *, around: float, least_um: float
) -> Region:
    """A square of the glass with the box (xyxy, level-0 px) in its middle, ``around`` times as wide as its longer side
    in micrometres, and ``least_um`` at least; ``mpp_xy`` in um per level-0 pixel."""
    x0, y0, x1, y1 = (float(value) for value in box_l0)
    mpp_x, mpp_y = mpp_xy
    side_um = max(around * max((x1 - x0) * mpp_x, (y1 - y0) * mpp_y), least_um)
    width, height = px_to_l0(side_um, 1.0, mpp_x), px_to_l0(side_um, 1.0, mpp_y)
    return Region((x0 + x1 - width) / 2, (y0 + y1 - height) / 2, width, height)
