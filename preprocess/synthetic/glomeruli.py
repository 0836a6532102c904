"""Glomeruli: Bowman's capsule and space, a lobulated tuft of capillary loops, mesangium, cells; and sclerotic ones."""

from __future__ import annotations

import numpy as np

from preprocess.synthetic.fields import to_uint8
from preprocess.synthetic.patch import Patch
from preprocess.synthetic.settings import Difficulty


def paint_glomerulus(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """Materials (rows, columns, 3) of an open glomerulus that fills the outline of ``patch``."""
    rng = patch.rng
    space = _bowman_space_um(patch, difficulty)
    margin = patch.depth_um - space
    tuft = np.minimum(margin, lobule_depth_um(patch))
    tuft = np.where(patch.mask & (margin > 0), tuft, -1.0)

    loop, loop_depth = patch.cells(rng.uniform(9.5, 12.5), warp_um=2.0)
    loop_depth = np.minimum(loop_depth, np.maximum(tuft, 0))
    loops = int(loop.max()) + 1
    open_loop = (rng.random(loops) < rng.uniform(0.45, 0.75))[loop]
    blood = (rng.random(loops) < rng.uniform(0.0, 0.35))[loop]
    mesangial = rng.uniform(0.6, 1.35)
    inside = tuft > 0
    wall = np.exp(-((loop_depth - 0.7) ** 2) / 1.3) * inside
    lumen = inside & open_loop & (loop_depth > 2.1)
    solid = inside & ~lumen
    grain = patch.noise(1.6)

    cytoplasm = solid * (48 + 9 * grain) + lumen * np.where(blood, 95, 6)
    matrix = solid * (26 + 16 * mesangial) * (0.85 + 0.25 * grain) + wall * (44 + 26 * mesangial) + lumen * 3
    haze = solid * 12.0
    image = to_uint8(*_with_capsule(patch, haze, cytoplasm, matrix, strength=1.0))
    centres = patch.scatter(solid & (tuft > 1.2), rng.uniform(6.4, 8.0))
    patch.draw_nuclei(image, centres[rng.random(len(centres)) < 0.85], 2.5, (0.5, 1.0), chromatin=70)
    lining = patch.scatter((patch.depth_um > 1.6) & (patch.depth_um < 3.0), 7.0)
    patch.draw_nuclei(image, lining[rng.random(len(lining)) < 0.5], 1.9, (0.3, 0.5), tangential=True)
    return image


def paint_sclerotic(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """Materials of a globally sclerotic glomerulus: wrinkled matrix, hardly an open loop, few cells."""
    rng = patch.rng
    space = 0.45 * _bowman_space_um(patch, difficulty)
    margin = np.where(patch.mask, patch.depth_um - space, -1.0)
    inside = margin > 0
    loop, fold_depth = patch.cells(rng.uniform(9, 13), warp_um=3.2)
    open_loop = (rng.random(int(loop.max()) + 1) < 0.07)[loop] & (fold_depth > 2.4)
    wrinkle = np.exp(-(fold_depth**2) / 2.2)
    swirl = patch.noise(9)
    grain = patch.noise(1.8)
    solid = inside & ~open_loop
    matrix = solid * (82 + 11 * swirl + 7 * grain + 38 * wrinkle) + (inside & open_loop) * 4
    cytoplasm = solid * (36 + 6 * grain)
    image = to_uint8(*_with_capsule(patch, solid * 8.0, cytoplasm, matrix, strength=0.8))
    centres = patch.scatter(solid & (margin > 2), rng.uniform(11, 16))
    patch.draw_nuclei(image, centres, 2.1, (0.35, 0.9), chromatin=72)
    return image


def lobule_depth_um(patch: Patch) -> np.ndarray:
    """Depth inside the lobules of a tuft; negative in the clefts between them, which fade out towards its middle."""
    _, depth = patch.cells(patch.rng.uniform(30, 42), warp_um=4.0)
    cleft = np.maximum(0, 0.9 + 1.1 * patch.noise(35)) * (patch.depth_um < 0.6 * patch.radius_um)
    return 1.3 * (depth - cleft)


def _bowman_space_um(patch: Patch, difficulty: Difficulty) -> np.ndarray:
    """Local width of Bowman's space: none at the vascular pole, uneven elsewhere."""
    return np.maximum(2.0, 2.2 + patch.uneven_ring_um(difficulty.bowman_space_um))


def _with_capsule(
    patch: Patch, haze: np.ndarray, cytoplasm: np.ndarray, matrix: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The layers with Bowman's capsule, a thin membrane along the outline."""
    thickness = patch.rng.uniform(0.8, 1.7)
    membrane = np.exp(-((patch.depth_um - 1.1) ** 2) / thickness) * patch.mask
    return haze + 4 * membrane, cytoplasm + 26 * membrane, matrix + 92 * strength * membrane
