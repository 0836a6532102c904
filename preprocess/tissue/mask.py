"""Where a slide has tissue, found on a thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, area_um2
from preprocess.slides.slide import Slide
from preprocess.tissue.bright_field import is_bright_field
from preprocess.tissue.detection import find_tissue

_MASK_MPP = 16.0
_SIDE_PX = (512, 2000)
"""Bounds of a mask's longer side: a small region needs a finer mask than 16 um/px, a large slide a coarser one."""


@dataclass(frozen=True)
class TissueMask:
    """Tissue of one slide: ``mask`` (h, w) bool over the level-0 ``region``."""

    mask: NDArray[np.bool_]
    region: Region
    slide_mpp: float

    @classmethod
    def of(cls, slide: Slide) -> TissueMask:
        """The tissue of what was scanned at 16 um/px, or what keeps its longer side within 512 to 2000 pixels.

        Raises UserError where the slide is no bright-field one: tissue is what absorbs light.
        """
        longest_um = max(slide.size_um)
        side = min(_SIDE_PX[1], max(_SIDE_PX[0], round(longest_um / _MASK_MPP)))
        thumbnail = slide.thumbnail(side)
        if not is_bright_field(thumbnail):
            raise UserError(
                "no bright-field slide: fluorescence, or inverted",
                path=slide.path,
                remedy="only stained sections in transmitted light are searched and cut; invert an inverted picture",
            )
        return cls(find_tissue(thumbnail, longest_um / max(thumbnail.shape)), slide.region, slide.mpp)

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
