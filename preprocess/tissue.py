"""Where a slide has tissue, found on a thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.geometry import Region, area_um2
from preprocess.readers.reader import Image
from preprocess.slide import Slide

_MASK_MPP = 16.0
_MAX_SIDE_PX = 2000

# In OpenCV's 8-bit HSV. Stained tissue is coloured, or darker than glass where the stain is silver; the
# bounds keep Otsu's threshold sane on a slide that is all glass or all tissue.
_SATURATION_BOUNDS = (14, 32)
_GLASS_VALUE = 190
_BLACK_VALUE = 40
_MEDIAN_PX = 5
_CLOSE_UM, _OPEN_UM, _HOLE_UM2 = 64.0, 40.0, 150_000.0
_PENS = (  # lowest and highest hue, saturation, value: green, blue and red ink
    ((36, 110, 40), (84, 255, 255)),
    ((96, 190, 40), (126, 255, 255)),
    ((0, 210, 120), (8, 255, 255)),
    ((174, 210, 120), (180, 255, 255)),
)


@dataclass(frozen=True)
class TissueMask:
    """Tissue of one slide: ``mask`` (h, w) bool over the level-0 ``region``."""

    mask: NDArray[np.bool_]
    region: Region
    slide_mpp: float

    @classmethod
    def of(cls, slide: Slide) -> TissueMask:
        """The tissue of ``slide`` at 16 um/px, or coarser where that exceeds 2000 pixels."""
        longest_um = max(slide.size_um)
        side = min(_MAX_SIDE_PX, max(1, round(longest_um / _MASK_MPP)))
        thumbnail = slide.thumbnail(side)
        return cls(_find_tissue(thumbnail, longest_um / max(thumbnail.shape)), slide.region, slide.mpp)

    def coverage(self, region: Region) -> float:
        """The fraction of ``region`` that is tissue, from 0 to 1; outside the slide there is none."""
        inside = region.intersection(self.region)
        if inside is None:
            return 0.0
        height, width = self.mask.shape
        scale_x, scale_y = width / self.region.width, height / self.region.height
        xs = ((inside.x - self.region.x) * scale_x, (inside.x1 - self.region.x) * scale_x)
        ys = ((inside.y - self.region.y) * scale_y, (inside.y1 - self.region.y) * scale_y)
        total = self._below(xs[1], ys[1]) - self._below(xs[0], ys[1]) - self._below(xs[1], ys[0])
        total += self._below(xs[0], ys[0])
        return min(1.0, max(0.0, total / (region.area * scale_x * scale_y)))

    def area_um2(self) -> float:
        """The area of all tissue, in square micrometres."""
        return area_um2(float(self.mask.mean()) * self.region.area, self.slide_mpp)

    def _below(self, x: float, y: float) -> float:
        """Tissue pixels left of ``x`` and above ``y``, counting cut pixels by their part."""
        integral = self._integral
        row, column = min(int(y), self.mask.shape[0] - 1), min(int(x), self.mask.shape[1] - 1)
        part_y, part_x = y - row, x - column
        top = integral[row, column] * (1 - part_x) + integral[row, column + 1] * part_x
        low = integral[row + 1, column] * (1 - part_x) + integral[row + 1, column + 1] * part_x
        return float(top * (1 - part_y) + low * part_y)

    @cached_property
    def _integral(self) -> NDArray[np.float64]:
        return np.asarray(cv2.integral(self.mask.astype(np.uint8)), dtype=np.float64)


def _find_tissue(rgb: Image, mpp: float) -> NDArray[np.bool_]:
    """Tissue on a thumbnail (h, w, 3) of ``mpp`` um/px."""
    hsv = cv2.cvtColor(cv2.medianBlur(rgb, _MEDIAN_PX), cv2.COLOR_RGB2HSV)
    saturation, value = hsv[..., 1], hsv[..., 2]
    otsu, _ = cv2.threshold(saturation, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    threshold = min(max(otsu, _SATURATION_BOUNDS[0]), _SATURATION_BOUNDS[1])
    tissue = ((saturation > threshold) | (value < _GLASS_VALUE)) & (value > _BLACK_VALUE)
    for low, high in _PENS:
        tissue &= cv2.inRange(hsv, np.array(low), np.array(high)) == 0
    closed = _close(tissue.astype(np.uint8), _disc(_CLOSE_UM / mpp))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, _disc(_OPEN_UM / mpp))
    return _fill_holes(opened.astype(np.uint8), _HOLE_UM2 / mpp**2) > 0


def _close(mask: NDArray[np.uint8], kernel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Close gaps, but not the one between tissue and the border of the slide, as OpenCV alone would."""
    pad = kernel.shape[0]
    padded = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    return cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[pad:-pad, pad:-pad].astype(np.uint8)


def _disc(diameter_px: float) -> NDArray[np.uint8]:
    side = max(1, 2 * round((diameter_px - 1) / 2) + 1)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)


def _fill_holes(mask: NDArray[np.uint8], max_area_px: float) -> NDArray[np.uint8]:
    """Fill holes up to ``max_area_px`` pixels: lumina of tubules and vessels belong to the tissue."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= max_area_px
    small[0] = False
    height, width = mask.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    enclosed = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    return np.where((small & enclosed)[labels], 1, mask).astype(np.uint8) if count > 1 else mask
