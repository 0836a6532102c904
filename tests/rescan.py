"""The same glass on a second scanner."""

from __future__ import annotations

import math

import cv2
import numpy as np


def rescan(image: np.ndarray, *, scale: float, degrees: float, size_wh: tuple[int, int], seed: int = 0):
    """``image`` (uint8 RGB) turned, shrunk by ``scale`` and somewhere near the middle of ``size_wh`` pixels.

    With other colours, a little blur and noise. Returns the scan and the true map (2, 3) from pixels of
    ``image`` to pixels of the scan, both counted from the corner of the first pixel.
    """
    rng = np.random.default_rng(seed)
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    turn = cv2.getRotationMatrix2D((0, 0), degrees, scale)
    turn[:, 2] = np.array(size_wh) / 2 + rng.uniform(-6, 6, 2) - turn[:, :2] @ middle
    # Drawn at about the size of the image and then averaged, as a coarse sensor does.
    factor = math.ceil(1 / scale)
    fine = turn * factor
    fine[:, 2] += fine[:, :2] @ (0.5, 0.5) - 0.5
    shape = (size_wh[0] * factor, size_wh[1] * factor)
    drawn = cv2.warpAffine(image, fine, shape, flags=cv2.INTER_LINEAR, borderValue=(243, 241, 243))
    scan = cv2.GaussianBlur(cv2.resize(drawn, size_wh, interpolation=cv2.INTER_AREA), (0, 0), 0.6)
    scan = scan * (0.93, 0.97, 0.9) + 4 + rng.normal(0, 2.5, scan.shape)
    return np.clip(np.rint(scan), 0, 255).astype(np.uint8), turn
