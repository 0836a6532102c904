"""Where and how many: regions of a slide in level-0 pixels (float), sizes of images in output pixels.

Reading one region at two sizes is what keeps a tile pair aligned. All conversions between the units are in this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_MPP, MAX_MPP = 0.05, 64.0
"""What a slide or a tile can have, in um/px (300 dpi are 85); anything else is a wrong unit or a default."""

UNIT_UM = {"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "centimeter": 1e4, "dm": 1e5, "m": 1e6}
"""Units of length in um, as OME, ImageJ and TIFF write them: the micro sign is one of two letters, or escaped."""
UNIT_UM |= dict.fromkeys(["um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer", "micrometers"], 1.0)
UNIT_UM |= {"in": 25_400.0, "inch": 25_400.0}


@dataclass(frozen=True)
class Size:
    """Width and height of an image, in pixels; both positive."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a size must be positive, not {self.width} x {self.height}")


@dataclass(frozen=True)
class Region:
    """A rectangle of a slide in level-0 pixels: left, top, width, height. It may lie partly outside the slide."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0):
            raise ValueError(f"a region must be positive, not {self.width} x {self.height}")

    @property
    def x1(self) -> float:
        """The right edge."""
        return self.x + self.width

    @property
    def y1(self) -> float:
        """The lower edge."""
        return self.y + self.height

    @property
    def area(self) -> float:
        """The area in level-0 pixels."""
        return self.width * self.height

    def intersection(self, other: Region) -> Region | None:
        """What both regions cover, or None where they share no area."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        x1, y1 = min(self.x1, other.x1), min(self.y1, other.y1)
        return Region(x, y, x1 - x, y1 - y) if x1 > x and y1 > y else None

    def to_px(self, boxes_l0: ArrayLike, size: Size) -> NDArray[np.float64]:
        """Boxes (N, 4) xyxy in level-0 pixels -> the same boxes in the pixels of this region read at ``size``."""
        boxes = np.asarray(boxes_l0, dtype=np.float64).reshape(-1, 4)
        return (boxes - self._origin()) * self._scale(size)

    def to_l0(self, boxes_px: ArrayLike, size: Size) -> NDArray[np.float64]:
        """Boxes (N, 4) xyxy in the pixels of this region read at ``size`` -> level-0 pixels."""
        boxes = np.asarray(boxes_px, dtype=np.float64).reshape(-1, 4)
        return boxes / self._scale(size) + self._origin()

    def _origin(self) -> NDArray[np.float64]:
        return np.array([self.x, self.y, self.x, self.y])

    def _scale(self, size: Size) -> NDArray[np.float64]:
        scale_x, scale_y = size.width / self.width, size.height / self.height
        return np.array([scale_x, scale_y, scale_x, scale_y])


def is_plausible_mpp(mpp: float) -> bool:
    """Whether ``mpp`` can be the um/px of a microscope slide; NaN cannot."""
    return MIN_MPP <= mpp <= MAX_MPP


def px_to_l0(length_px: float, mpp: float, slide_mpp: float) -> float:
    """A length in pixels of ``mpp`` um/px -> level-0 pixels of a slide of ``slide_mpp`` um/px."""
    return length_px * mpp / slide_mpp


def size_at(region: Region, mpp: float, slide_mpp_xy: tuple[float, float]) -> Size:
    """The size at which ``region`` of a slide has ``mpp`` um/px, to the nearest pixel; ``slide_mpp_xy`` in um/px."""
    width, height = region.width * slide_mpp_xy[0] / mpp, region.height * slide_mpp_xy[1] / mpp
    return Size(max(1, round(width)), max(1, round(height)))


def area_um2(area_l0: float, slide_mpp: float) -> float:
    """An area in level-0 pixels -> square micrometres."""
    return area_l0 * slide_mpp * slide_mpp
