"""The connected pieces of a slide's tissue, and which of them each detection lies in."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mhkd.structures import SlideDetections
from preprocess.base.geometry import Region, Size, area_um2
from preprocess.tissue.mask import TissueMask

NO_FRAGMENT = 0


@dataclass(frozen=True)
class TissueFragments:
    """Pieces of tissue, numbered from 1, the largest first; pieces that touch at a corner are one.

    ``numbers`` (h, w) int32 over the level-0 ``region``, 0 where there is no tissue; ``areas_mm2[i]`` is the area of
    piece i + 1.
    """

    numbers: NDArray[np.int32]
    region: Region
    areas_mm2: tuple[float, ...]

    @classmethod
    def of(cls, tissue: TissueMask) -> TissueFragments:
        """The pieces of ``tissue``; of two of one size, the upper and then the left one comes first."""
        count, labels, stats, _ = cv2.connectedComponentsWithStats(tissue.mask.astype(np.uint8), connectivity=8)
        areas_px = stats[1:, cv2.CC_STAT_AREA]
        order = np.lexsort((stats[1:, cv2.CC_STAT_LEFT], stats[1:, cv2.CC_STAT_TOP], -areas_px))
        number_of = np.zeros(count, np.int32)
        number_of[order + 1] = np.arange(1, count)
        per_px = area_um2(tissue.region.area / tissue.mask.size, tissue.slide_mpp) / 1e6
        return cls(number_of[labels], tissue.region, tuple(float(area * per_px) for area in areas_px[order]))

    def containing(self, boxes_l0: NDArray[np.float64]) -> NDArray[np.int64]:
        """The piece of tissue that fills most of each box.

        Args:
            boxes_l0: (N, 4) xyxy in level-0 pixels.

        Returns:
            (N,) numbers of pieces; NO_FRAGMENT for a box without any tissue.
        """
        height, width = self.numbers.shape
        boxes_px = self.region.to_px(boxes_l0, Size(width, height))
        low = np.clip(np.floor(boxes_px[:, :2]), 0, (width - 1, height - 1)).astype(int)
        high = np.maximum(np.clip(np.ceil(boxes_px[:, 2:]), 0, (width, height)).astype(int), low + 1)
        found = np.full(len(boxes_px), NO_FRAGMENT, np.int64)
        for i, ((x0, y0), (x1, y1)) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            inside = self.numbers[y0:y1, x0:x1]
            inside = inside[inside > 0]
            if inside.size:
                found[i] = np.bincount(inside).argmax()
        return found

    def summary(self, detections: SlideDetections) -> list[dict[str, int | float]]:
        """For each piece its number, its area in mm2 and how many of ``detections`` lie in it."""
        counts = np.bincount(self.containing(detections.boxes_l0), minlength=len(self.areas_mm2) + 1)
        return [
            {"number": number, "tissue_mm2": round(area, 4), "detections": int(counts[number])}
            for number, area in enumerate(self.areas_mm2, start=1)
        ]
