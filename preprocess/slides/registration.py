"""How a slide's low-resolution scan lies on the slide, found from the two pictures alone.

Coarse, on thumbnails of one mpp: the shift by cross-correlation for a fan of rotations, then the enhanced
correlation coefficient (G. D. Evangelidis, E. Z. Psarakis, "Parametric image alignment using enhanced
correlation coefficient maximization", IEEE TPAMI 30 (2008) 1858-1865). Fine, at the scan's own mpp: the
shift of windows of tissue by phase correlation, and an affine map through them, so that the precision does
not depend on the size of the slide.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size, size_at
from preprocess.base.grid import grid_tiles
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide
from preprocess.slides.student_scan import Registration, ScanFile, StudentScan, scale_then_shift

Matrix = NDArray[np.float64]
Gray = NDArray[np.float32]

MIN_CORRELATION = 0.7
"""An estimate whose windows correlate less is refused; see docs/slides.md for what right and wrong ones have."""
_MAX_RESIDUAL_PX, _MAX_STRETCH = 1.0, 1.1

_COARSE_PX, _FINER_PX = 256, 1024
_QUARTERS, _TILTS = (0, 90, 180, 270), (-9, -6, -3, 0, 3, 6, 9)
_ECC = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
_ECC_BLUR_PX = 5

# Sides of windows that a Fourier transform takes as they are; of odd ones OpenCV has the middle half a pixel off.
_WINDOW_SIDES, _MAX_WINDOWS = (256, 192, 128, 96, 64, 48, 32), 32
_ROUNDS, _MIN_WINDOWS, _LEAST_STRUCTURE = 3, 6, 0.4
_CENTRE = scale_then_shift(1, 1, 0.5, 0.5)
_REMEDY = "check that it shows the same glass, and its mpp (student_mpp), or give student_transform"


@contextmanager
def open_scan(slide: Slide, file: ScanFile | None) -> Iterator[StudentScan | None]:
    """The scan that ``slide`` names, in its place: by the transform given with it, or by :func:`register`.

    None where it names none. Raises UserError if the scan is missing or unreadable, if its mpp is unknown,
    or if its place is not found or off the slide.
    """
    if file is None:
        yield None
        return
    with Slide.open(file.path, file.mpp) as scan:
        if file.transform is None:
            found = register(slide, scan)
        else:
            found = _given(slide, scan, np.array(file.transform, np.float64).reshape(2, 3))
        yield StudentScan(scan, found)


def register(slide: Slide, scan: Slide) -> Registration:
    """Where ``scan`` lies on ``slide``, by any shift, any rotation, and up to 10 % of stretch or shear.

    Raises UserError where no tissue is shared, the stretch is larger (a wrong mpp), or the windows of tissue
    correlate too little or differ by more than a pixel of the scan after alignment.
    """
    try:
        matrix = _coarse(slide, scan)
    except cv2.error as error:
        raise _refusal(scan, f"not found on {slide.path.name}") from error
    for _ in range(_ROUNDS):
        placed = StudentScan(scan, Registration(matrix, "estimated"))
        windows = _windows(slide, placed)
        if len(windows) < _MIN_WINDOWS:
            reason = f"shares {len(windows)} windows of tissue with {slide.path.name}, and {_MIN_WINDOWS} are needed"
            raise _refusal(scan, reason)
        matrix = _refined(slide, placed, windows)
    stretch = np.diag(scan.mpp_xy) @ matrix[:, :2] @ np.diag(1 / np.array(slide.mpp_xy))
    largest, smallest = np.linalg.svd(stretch, compute_uv=False)
    found = _measured(slide, StudentScan(scan, Registration(matrix, "estimated")), windows)
    if not _fits(found):
        raise _refusal(scan, f"does not lie on {slide.path.name}: {_fit(found)}")
    if max(largest, 1 / smallest) > _MAX_STRETCH:
        by = f"{largest:.3f} and {smallest:.3f}"
        raise _refusal(scan, f"is stretched by {by} against {slide.path.name}: one of the mpp is wrong")
    return found


def _refusal(scan: Slide, reason: str) -> UserError:
    return UserError(reason, path=scan.path, remedy=_REMEDY)


def _given(slide: Slide, scan: Slide, matrix: Matrix) -> Registration:
    """A registration by a stated ``matrix``; UserError where it puts the slide off the scan or does not fit."""
    placed = StudentScan(scan, Registration(matrix, "given"))
    windows = _windows(slide, placed)
    if not windows:
        raise UserError(
            "the given student_transform leaves no tissue of the slide on the scan",
            path=scan.path,
            remedy="it maps level-0 px of the slide to level-0 px of the scan, not the other way round",
        )
    found = _measured(slide, placed, windows)
    if not _fits(found):
        raise UserError(
            f"the given student_transform does not fit {slide.path.name}: {_fit(found)}",
            path=scan.path,
            remedy="check its numbers, or leave them empty: then the place is estimated",
        )
    return found


def _fits(found: Registration) -> bool:
    return (found.correlation or 0.0) >= MIN_CORRELATION and (found.residual_px or 0.0) <= _MAX_RESIDUAL_PX


def _fit(found: Registration) -> str:
    apart = f"windows {found.residual_px:.2f} px of the scan apart (at most {_MAX_RESIDUAL_PX:g})"
    return f"correlation {found.correlation:.2f} (at least {MIN_CORRELATION:g} is needed), {apart}"


@dataclass(frozen=True)
class _Thumbnail:
    """Darkness against the glass on a thumbnail, and the map from its pixels to level 0."""

    darkness: Gray
    to_l0: Matrix

    @classmethod
    def of(cls, slide: Slide, mpp: float) -> _Thumbnail:
        region = slide.region
        size = size_at(region, mpp, slide.mpp_xy)
        green = slide.read(region, size)[..., 1].astype(np.float32)
        darkness = np.maximum(np.percentile(green, 95) - green, 0).astype(np.float32)
        to_l0 = scale_then_shift(region.width / size.width, region.height / size.height, region.x, region.y)
        # In the middle of its pixels, as OpenCV counts.
        return cls(darkness, to_l0 @ _CENTRE)

    def structure(self, region: Region) -> float:
        """The contrast of ``region`` (level-0 px) along the direction in which it has least.

        A straight border, of the cover glass or of what was scanned, has none along itself: there a shift
        cannot be seen (J. Shi, C. Tomasi, "Good features to track", CVPR 1994, 593-600).
        """
        corners = np.array([[region.x, region.x1], [region.y, region.y1], [1, 1]])
        (x0, x1), (y0, y1) = (np.linalg.inv(self.to_l0) @ corners)[:2].round().astype(int).clip(0)
        part = self.darkness[y0 : y1 + 1, x0 : x1 + 1]
        gradients = np.stack([cv2.Sobel(part, cv2.CV_32F, *order).ravel() for order in ((1, 0), (0, 1))])
        return float(np.sqrt(max(0.0, np.linalg.eigvalsh(gradients @ gradients.T / part.size)[0])))


def _coarse(slide: Slide, scan: Slide) -> Matrix:
    """The map (2, 3) from level 0 to level 0, good to about a pixel of a thumbnail."""
    longest_um = max(*slide.size_um, *scan.size_um)
    thumb, scan_thumb = (_Thumbnail.of(one, longest_um / _COARSE_PX) for one in (slide, scan))
    tries = [
        max((_shifted(thumb.darkness, scan_thumb.darkness, quarter + tilt) for tilt in _TILTS), key=lambda t: t[0])
        for quarter in _QUARTERS
    ]
    turned = [_ecc(thumb.darkness, scan_thumb.darkness, start) for _, start in tries]
    _, best = max(turned, key=lambda one: one[0])
    if not np.isfinite(best).all():
        raise cv2.error("no rotation fits")
    to_l0 = scan_thumb.to_l0 @ best @ np.linalg.inv(thumb.to_l0)
    finer = max(longest_um / _FINER_PX, slide.mpp, scan.mpp)
    thumb, scan_thumb = (_Thumbnail.of(one, finer) for one in (slide, scan))
    start = np.linalg.inv(scan_thumb.to_l0) @ to_l0 @ thumb.to_l0
    _, best = _ecc(thumb.darkness, scan_thumb.darkness, start)
    return np.asarray(scan_thumb.to_l0 @ best @ np.linalg.inv(thumb.to_l0))[:2]


def _shifted(fixed: Gray, moving: Gray, degrees: float) -> tuple[float, Matrix]:
    """How well ``moving``, turned and then shifted, fits ``fixed`` (0 to 1), and the map (3, 3) to its pixels."""
    side = cv2.getOptimalDFTSize(2 * max(*fixed.shape, *moving.shape))
    turn = np.vstack([cv2.getRotationMatrix2D((moving.shape[1] / 2, moving.shape[0] / 2), degrees, 1), [0, 0, 1]])
    turn = scale_then_shift(1, 1, (side - moving.shape[1]) / 2, (side - moving.shape[0]) / 2) @ turn
    canvas = cv2.warpAffine(moving, turn[:2], (side, side))
    spectrum = np.fft.rfft2(canvas) * np.conj(np.fft.rfft2(fixed, (side, side)))
    surface = np.fft.irfft2(spectrum, (side, side))
    y, x = (int(place) for place in np.unravel_index(surface.argmax(), surface.shape))
    norm = float(np.linalg.norm(canvas) * np.linalg.norm(fixed)) or 1.0
    shift = scale_then_shift(1, 1, x - side * (x > side // 2), y - side * (y > side // 2))
    return float(surface.max()) / norm, np.linalg.inv(turn) @ shift


def _ecc(fixed: Gray, moving: Gray, start: Matrix) -> tuple[float, Matrix]:
    """The correlation and the affine map (3, 3) after refinement; (-1, NaN) where it does not converge."""
    warp, no_mask = start[:2].astype(np.float32), np.array([])
    try:
        value, warp = cv2.findTransformECC(fixed, moving, warp, cv2.MOTION_AFFINE, _ECC, no_mask, _ECC_BLUR_PX)
    except cv2.error:
        return -1.0, np.full((3, 3), np.nan)
    return value, np.vstack([warp.astype(np.float64), [0, 0, 1]])


def _windows(slide: Slide, placed: StudentScan) -> list[Region]:
    """Up to 32 squares that both scans show, with structure in both directions, spread over the slide."""
    scan_mpp = placed.slide.mpp
    room = min(slide.size_um) / scan_mpp / 4
    side = next((side for side in _WINDOW_SIDES if side <= room), _WINDOW_SIDES[-1])
    grid = grid_tiles(slide.region, slide.wh_l0(Size(side, side), scan_mpp), last="drop")
    seen = [region for region in grid if placed.covers(region, slide.region)]
    thumbnail = _Thumbnail.of(slide, max(max(slide.size_um) / _FINER_PX, slide.mpp))
    structure = [thumbnail.structure(region) for region in seen]
    wanted = [
        region for region, value in zip(seen, structure, strict=True) if value > _LEAST_STRUCTURE * max(structure)
    ]
    return wanted[:: -(-len(wanted) // _MAX_WINDOWS)] if wanted else []


def _compare(slide: Slide, placed: StudentScan, region: Region) -> tuple[NDArray[np.float64], float]:
    """By how many level-0 px (x, y) the scan shows ``region`` displaced, and the correlation of the two."""
    size = size_at(region, placed.slide.mpp, slide.mpp_xy)
    pair = [_smooth(image) for image in (slide.read(region, size), placed.read(region, size))]
    correlation = float((pair[0] * pair[1]).mean()) / (float(pair[0].std() * pair[1].std()) or 1.0)
    # Last, because it tapers its arguments in place.
    shift_px, _ = cv2.phaseCorrelate(*pair, cv2.createHanningWindow((size.width, size.height), cv2.CV_32F))
    return np.array(shift_px) * (region.width / size.width, region.height / size.height), correlation


def _smooth(image: Image) -> Gray:
    """Grey values about their mean: with the mean, the taper of phase correlation would itself be the match."""
    grey = cv2.GaussianBlur(image[..., 1].astype(np.float32), (0, 0), 1.0)
    return (grey - grey.mean()).astype(np.float32)


def _refined(slide: Slide, placed: StudentScan, windows: list[Region]) -> Matrix:
    """The map of ``placed``, corrected by an affine map through the displacements of its windows."""
    shifts = np.array([_compare(slide, placed, region)[0] for region in windows])
    matrix = placed.registration.matrix
    centres = np.array([(region.x + region.width / 2, region.y + region.height / 2) for region in windows])
    middle = centres.mean(axis=0)
    terms = np.column_stack([centres - middle, np.ones(len(centres))])
    keep = np.ones(len(centres), bool)
    for _ in range(_ROUNDS):
        fit, *_ = np.linalg.lstsq(terms[keep], shifts[keep], rcond=None)
        rest = np.linalg.norm(shifts - terms @ fit, axis=1)
        # A window that slipped is far off the others; half a pixel of the scan is none.
        keep = rest <= max(3 * float(np.median(rest)), 0.5 * placed.slide.mpp / slide.mpp)
        if keep.sum() < _MIN_WINDOWS:
            break
    displaced = np.vstack([np.column_stack([np.eye(2) + fit[:2].T, fit[2] - middle @ fit[:2]]), [0, 0, 1]])
    return np.asarray(np.vstack([matrix, [0, 0, 1]]) @ displaced)[:2]


def _measured(slide: Slide, placed: StudentScan, windows: list[Region]) -> Registration:
    """The registration of ``placed`` with how well its windows fit."""
    compared = [_compare(slide, placed, region) for region in windows]
    apart_um = [float(np.linalg.norm(shift * slide.mpp_xy)) for shift, _ in compared]
    correlation = float(np.median([value for _, value in compared]))
    residual_px = float(np.median(apart_um)) / placed.slide.mpp
    return replace(placed.registration, correlation=correlation, residual_px=residual_px)
