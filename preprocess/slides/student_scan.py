"""A slide's own low-resolution scan: a second file, read through an affine map from the slide's pixels to its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides.files import slide_sha256
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide

# A pair needs this much of its region on both glasses, less what lies off the slide itself.
_MIN_COVERED = 0.95
_MARGIN_PX = 3
# A factor of 3.99 still counts as 4: mpp are stated rounded.
_MPP_TOLERANCE = 1.02


@dataclass(frozen=True)
class ScanFile:
    """The scan that a slide names: its file, its mpp if stated, and six affine numbers if given.

    The numbers (a, b, c, d, e, f) map level-0 pixels (x, y) of the slide to level-0 pixels of the scan:
    x' = a x + b y + c and y' = d x + e y + f. Pixel (0, 0) covers the square from (0, 0) to (1, 1).
    """

    path: Path
    mpp: float | None = None
    transform: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Registration:
    """How a scan lies on its slide: ``matrix`` (2, 3), level-0 px of the slide -> level-0 px of the scan.

    ``source`` is "given" or "estimated". After alignment, over windows of tissue: ``correlation`` is the median of the
    correlation of grey values, ``residual_px`` the median distance in pixels of the scan; None where not measured.
    """

    matrix: NDArray[np.float64]
    source: str
    correlation: float | None = None
    residual_px: float | None = None

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        measures = {"correlation": self.correlation, "residual_px": self.residual_px}
        return {
            "transform": [round(value, 9) for value in self.matrix.ravel().tolist()],
            "source": self.source,
            **{name: None if value is None else round(value, 4) for name, value in measures.items()},
        }


class StudentScan:
    """An open scan, in its place: it reads regions of the slide that it belongs to.

    ``slide`` is the scan as a slide of its own; who opened it closes it.
    """

    def __init__(self, slide: Slide, registration: Registration) -> None:
        self.slide = slide
        self.registration = registration
        self._matrix = np.vstack([registration.matrix, [0.0, 0.0, 1.0]])

    def to_record(self) -> dict[str, Any]:
        """The file, its mpp and its place as plain JSON."""
        return {
            "file": self.slide.path.name,
            "sha256": slide_sha256(self.slide.path),
            "mpp": round(self.slide.mpp, 6),
            "mpp_source": self.slide.mpp_source,
            **self.registration.to_record(),
        }

    def map(self, points_l0: ArrayLike) -> NDArray[np.float64]:
        """Points (N, 2) in level-0 px of the slide -> level-0 px of the scan."""
        return np.asarray(points_l0, np.float64) @ self._matrix[:2, :2].T + self._matrix[:2, 2]

    def covers(self, region: Region, slide_region: Region) -> bool:
        """Whether the scan shows at least 95 % of what of ``region`` lies in ``slide_region``, the slide's own."""
        inside = region.intersection(slide_region)
        if inside is None:
            return False
        seen, scanned = self.map(_corners(inside)), _corners(self.slide.region)
        shared, _ = cv2.intersectConvexConvex(seen.astype(np.float32), scanned.astype(np.float32))
        return shared >= _MIN_COVERED * inside.area * abs(np.linalg.det(self._matrix))

    def read(self, region: Region, size: Size) -> Image:
        """``region`` of the slide (level-0 px) as the scan shows it: uint8 RGB (h, w, 3); white off the scan.

        The scan is read on its own pixels, averaged by the largest whole factor that loses nothing, then
        turned by bicubic interpolation to twice the wanted size, and averaged down: no aliasing, and one
        interpolation only.
        """
        fine = Size(2 * size.width, 2 * size.height)
        to_l0 = scale_then_shift(region.width / fine.width, region.height / fine.height, region.x, region.y)
        factor = max(1, math.floor(2 * math.sqrt(abs(np.linalg.det(self._matrix @ to_l0))) * _MPP_TOLERANCE))
        spanned = self.map(_corners(region)) / factor
        left, top = (math.floor(value) - _MARGIN_PX for value in spanned.min(axis=0))
        right, bottom = (math.ceil(value) + _MARGIN_PX for value in spanned.max(axis=0))
        cover = Region(left * factor, top * factor, (right - left) * factor, (bottom - top) * factor)
        pixels = self.slide.read(cover, Size(right - left, bottom - top))
        to_read = scale_then_shift(1 / factor, 1 / factor, -left, -top)
        # OpenCV counts from the centre of the first pixel, everything here from its corner.
        matrix = _shift(-0.5) @ to_read @ self._matrix @ to_l0 @ _shift(0.5)
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        white = (255, 255, 255)
        turned = cv2.warpAffine(pixels, matrix[:2], (fine.width, fine.height), flags=flags, borderValue=white)
        small = cv2.resize(turned, (size.width, size.height), interpolation=cv2.INTER_AREA)
        return small.astype(np.uint8, copy=False)


def parse_transform(text: str) -> tuple[float, ...]:
    """Six numbers between blanks, commas or semicolons, the rows of a 2 x 3 matrix; UserError if they are no map."""
    remedy = "write a b c d e f: x' = a x + b y + c, y' = d x + e y + f, from level-0 px of the slide to the scan's"
    try:
        values = tuple(float(part) for part in text.replace(",", " ").replace(";", " ").split())
    except ValueError:
        values = ()
    if len(values) != 6 or not all(map(math.isfinite, values)):
        raise UserError(f"not six numbers: {text!r}", remedy=remedy)
    if values[0] * values[4] - values[1] * values[3] <= 0:
        raise UserError(f"the transform {text!r} mirrors or flattens the slide", remedy=remedy)
    return values


def _corners(region: Region) -> NDArray[np.float64]:
    return np.array(
        [(region.x, region.y), (region.x1, region.y), (region.x1, region.y1), (region.x, region.y1)], np.float64
    )


def scale_then_shift(scale_x: float, scale_y: float, x: float, y: float) -> NDArray[np.float64]:
    """The map (3, 3) of points that scales each axis and then shifts by (x, y)."""
    return np.array([[scale_x, 0, x], [0, scale_y, y], [0, 0, 1]], np.float64)


def _shift(by: float) -> NDArray[np.float64]:
    return scale_then_shift(1, 1, by, by)
