"""Random fields and small raster helpers that the painters share. Images are (rows, columns)."""

from __future__ import annotations

import cv2
import numpy as np

NOISE_ROWS = 701
"""Side of the square that ``tiled_noise`` repeats; work on large images goes in bands of as many rows."""


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], wavelength_px: float) -> np.ndarray:
    """float32 noise of zero mean, about unit deviation and features about ``wavelength_px`` apart."""
    height, width = shape
    grid = tuple(max(4, int(np.ceil(side / wavelength_px)) + 3) for side in (height, width))
    small = rng.standard_normal(grid, dtype=np.float32) * 1.35
    scale = np.array([[1 / wavelength_px, 0, 1], [0, 1 / wavelength_px, 1]], dtype=np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(small, scale, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)


def tiled_noise(rng: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> np.ndarray:
    """float32 noise of unit deviation, blurred by ``sigma_px``; repeats every ``NOISE_ROWS``, so it is cheap."""
    tile = rng.standard_normal((NOISE_ROWS, NOISE_ROWS), dtype=np.float32)
    if sigma_px > 0:
        tile = cv2.GaussianBlur(tile, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT)
        tile /= tile.std()
    height, width = shape
    repeats = (-(-height // NOISE_ROWS), -(-width // NOISE_ROWS))
    return np.tile(tile, repeats)[:height, :width]


def jittered_points(
    rng: np.random.Generator, width_height: tuple[float, float], spacing: float, jitter: float = 0.42
) -> np.ndarray:
    """Points (n, 2) as x, y over a rectangle: a staggered grid, each point moved by up to ``jitter`` of ``spacing``."""
    width, height = width_height
    x, y = np.meshgrid(np.arange(spacing / 2, width, spacing), np.arange(spacing / 2, height, spacing))
    x[1::2] += spacing / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    return points + rng.uniform(-jitter, jitter, points.shape) * spacing


def distance_px(mask: np.ndarray) -> np.ndarray:
    """float32 distance in px from each set pixel of ``mask`` to the nearest unset one; 0 where unset."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)


def cell_depth(seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voronoi cells of the connected zero components of ``seeds`` (uint8).

    Returns int32 labels (from 1) and the float32 distance in px of each pixel to its cell's border.
    """
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    inner = np.ones(labels.shape, np.uint8)
    inner[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
    inner[1:][labels[1:] != labels[:-1]] = 0
    return labels, cv2.distanceTransform(inner, cv2.DIST_L2, 5)


def point_cells(points_px: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """``cell_depth`` of the Voronoi cells of points (n, 2) given as x, y in px."""
    seeds = np.full(shape, 255, np.uint8)
    x, y = np.round(points_px).astype(int).T
    keep = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    seeds[y[keep], x[keep]] = 0
    return cell_depth(seeds)


def fill_outline(shape: tuple[int, int], points_px: np.ndarray) -> np.ndarray:
    """A bool image that is set inside the closed outline ``points_px`` (n, 2)."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(points_px * 16).astype(np.int32)], 1, shift=4)
    return mask.astype(bool)


def to_uint8(*layers: np.ndarray) -> np.ndarray:
    """Float layers (h, w) as the channels of one uint8 image, cut off at 0 and 255."""
    return cv2.merge([np.clip(layer, 0, 255).astype(np.uint8) for layer in layers])


def lookup(image: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """Values of ``image`` at points (n, 2) as x, y in its px; points outside take the nearest edge value."""
    x = np.clip(points_px[:, 0].astype(int), 0, image.shape[1] - 1)
    y = np.clip(points_px[:, 1].astype(int), 0, image.shape[0] - 1)
    return image[y, x]
