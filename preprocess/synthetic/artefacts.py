"""What preparing and scanning does to a slide: tears, folds, pen, dust, fields out of focus, noise."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from preprocess.synthetic.fields import NOISE_ROWS, smooth_noise, tiled_noise
from preprocess.synthetic.settings import SlideSpec
from preprocess.synthetic.tissue import COARSE_UM, Tissue

_PEN_COLOURS = ((40, 70, 150), (30, 110, 70), (45, 45, 50))


def tear_and_fold(rng: np.random.Generator, materials: np.ndarray, spec: SlideSpec, tissue: Tissue) -> None:
    """Cracks and folds of the tissue, in place on the uint8 materials of level 0."""
    for _ in range(rng.poisson(2 * spec.difficulty.artefact_rate)):
        path = _path_in_tissue(rng, tissue, rng.uniform(200, 700)) / spec.mpp
        for start, end in pairwise(path):
            ends = [tuple(int(value) for value in np.round(point)) for point in (start, end)]
            cv2.line(materials, *ends, (0, 0, 0), int(rng.uniform(3, 11) / spec.mpp), cv2.LINE_AA)
    for _ in range(rng.poisson(0.7 * spec.difficulty.artefact_rate)):
        path = _path_in_tissue(rng, tissue, rng.uniform(400, 900)) / spec.mpp
        _fold(materials, path, rng.uniform(12, 32) / spec.mpp)


def scan(rng: np.random.Generator, image: np.ndarray, spec: SlideSpec, tissue: Tissue) -> None:
    """Pen, dust, defocus, slightly uneven strips of the scanner and noise, in place on uint8 RGB."""
    rate = spec.difficulty.artefact_rate
    if rng.random() < 0.3 * rate:
        _pen(rng, image, spec, tissue)
    for _ in range(rng.poisson(12 * rate)):
        centre = tuple(int(rng.integers(side)) for side in spec.size_px)
        axes = tuple(int(value / spec.mpp) + 1 for value in rng.uniform(1.5, 7, 2))
        cv2.ellipse(image, centre, axes, rng.uniform(0, 180), 0, 360, (95, 90, 85), -1, cv2.LINE_AA)
    for _ in range(rng.poisson(1.2 * rate)):
        _defocus(rng, image, spec, tissue)
    _strips_and_noise(rng, image, spec.difficulty.noise_levels)


def _path_in_tissue(rng: np.random.Generator, tissue: Tissue, length_um: float) -> np.ndarray:
    """A wandering path (n, 2) in um that starts somewhere in the tissue."""
    rows, columns = np.nonzero(tissue.mask)
    pick = int(rng.integers(len(rows)))
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.16, 40))
    steps = np.stack([np.cos(angle), np.sin(angle)], axis=1) * length_um / 40
    return np.array([columns[pick], rows[pick]]) * COARSE_UM + np.cumsum(steps, axis=0)


def _fold(materials: np.ndarray, path_px: np.ndarray, width_px: float) -> None:
    """A fold: the tissue along ``path_px`` lies double, so what is beside it adds up."""
    margin = int(3 * width_px)
    low = np.maximum(np.floor(path_px.min(axis=0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(path_px.max(axis=0)).astype(int) + margin, materials.shape[1::-1])
    if (high - low < 8).any():
        return
    view = materials[low[1] : high[1], low[0] : high[0]]
    weight = np.zeros(view.shape[:2], np.uint8)
    cv2.polylines(weight, [np.round(path_px - low).astype(np.int32)], False, 255, max(1, int(width_px)), cv2.LINE_AA)
    weight = cv2.GaussianBlur(weight, (0, 0), max(1.0, width_px / 8))
    beside = np.roll(view, (margin // 2, margin // 3), axis=(0, 1))
    doubled = cv2.multiply(beside, cv2.merge([weight] * 3), scale=0.85 / 255)
    cv2.add(view, doubled, dst=view)


def _pen(rng: np.random.Generator, image: np.ndarray, spec: SlideSpec, tissue: Tissue) -> None:
    """A stroke of a marker on the cover slip, beside or across the edge of the tissue."""
    outline = tissue.outlines[int(rng.integers(len(tissue.outlines)))]
    first = int(rng.integers(len(outline)))
    stretch = outline[np.arange(first, first + len(outline) // 6, 4) % len(outline)]
    middle = outline.mean(axis=0)
    path = middle + (stretch - middle) * rng.uniform(1.02, 1.1)
    weight = np.zeros(image.shape[:2], np.uint8)
    points = np.round(path / spec.mpp).astype(np.int32)
    cv2.polylines(weight, [points], False, 210, int(rng.uniform(60, 130) / spec.mpp), cv2.LINE_AA)
    x, y, width, height = cv2.boundingRect(points)
    margin = int(100 / spec.mpp)
    rows, columns = slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)
    share = cv2.blur(weight[rows, columns], (9, 9)).astype(np.float32)[..., None] / 255
    share *= 0.9 + 0.1 * smooth_noise(rng, share.shape[:2], 120)[..., None]
    colour = np.array(_PEN_COLOURS[int(rng.integers(len(_PEN_COLOURS)))], np.float32) / 255
    view = image[rows, columns]
    view[:] = np.clip(view * (1 - share * (1 - colour)), 0, 255).astype(np.uint8)


def _defocus(rng: np.random.Generator, image: np.ndarray, spec: SlideSpec, tissue: Tissue) -> None:
    """A round field in the tissue that is out of focus, fading out at its rim."""
    spot = _path_in_tissue(rng, tissue, 1.0)[0] / spec.mpp
    radius = rng.uniform(150, 420) / spec.mpp
    low = np.maximum(np.floor(spot - radius).astype(int), 0)
    high = np.minimum(np.ceil(spot + radius).astype(int), image.shape[1::-1])
    view = image[low[1] : high[1], low[0] : high[0]]
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    share = np.clip(1.6 * (1 - np.hypot(x - spot[0], y - spot[1]) / radius), 0, 1)[..., None]
    blurred = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.8, 2.2) / spec.mpp)
    view[:] = (view + share * (blurred.astype(np.float32) - view)).astype(np.uint8)


def _strips_and_noise(rng: np.random.Generator, image: np.ndarray, deviation: float) -> None:
    """Scan strips that differ a little in brightness, and noise; block by block to spare memory."""
    layers = [128 + deviation * tiled_noise(rng, (NOISE_ROWS, image.shape[1]), 0.6) for _ in range(3)]
    noise = cv2.merge([np.clip(np.round(layer), 0, 255).astype(np.uint8) for layer in layers])
    for top in range(0, image.shape[0], NOISE_ROWS):
        block = image[top : top + NOISE_ROWS]
        cv2.addWeighted(block, 1 + rng.normal(0, 0.006), noise[: len(block)], 1.0, -128.0, dst=block)
