"""By how much the two images of a tile pair are apart."""

from __future__ import annotations

import cv2
import numpy as np


def offset_px(teacher: np.ndarray, student: np.ndarray) -> float:
    """The distance between two square images of one region, uint8 RGB, in pixels of the smaller: phase correlation.

    The smaller is enlarged about the centres of its pixels, and both are smoothed over about one of them, so
    that what is compared is what both resolve. NaN where there is too little to see. The side of the larger
    must be one that a Fourier transform takes as it is, and even (OpenCV has the middle of odd ones half a
    pixel off).
    """
    side, scale = teacher.shape[0], teacher.shape[0] / student.shape[0]
    one = cv2.GaussianBlur(teacher[..., 1].astype(np.float32), (0, 0), 0.5 * scale)
    other = cv2.resize(student[..., 1].astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    other = cv2.GaussianBlur(other, (0, 0), 0.3 * scale)
    if min(one.std(), other.std()) < 4:
        return float("nan")
    assert side % 2 == 0
    assert cv2.getOptimalDFTSize(side) == side
    # About the means, or the taper itself would be what matches.
    one, other = one - one.mean(), other - other.mean()
    shift, _ = cv2.phaseCorrelate(one, other, cv2.createHanningWindow((side, side), cv2.CV_32F))
    return float(np.hypot(*shift)) / scale
