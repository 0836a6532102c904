"""Tubules, interstitium, capsule and their nuclei: the ground that glomeruli and vessels are painted on.

Everything is painted as amounts of three materials in a uint8 (rows, columns, 3) image, 100 being a solid amount:
chromatin (nuclei), cytoplasm, matrix (basement membrane, brush border, collagen). ``stain.py`` gives them colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocess.synthetic.fields import (
    NOISE_ROWS,
    cell_depth,
    distance_px,
    fill_outline,
    jittered_points,
    lookup,
    smooth_noise,
    tiled_noise,
    to_uint8,
)
from preprocess.synthetic.nuclei import Nuclei
from preprocess.synthetic.placement import Placed
from preprocess.synthetic.settings import Look
from preprocess.synthetic.tissue import COARSE_UM, Tissue

_STRAIGHT_SPACING_UM = (21.0, 190.0)
_ROUNDING_UM = 8.0
_STYLES = 64


@dataclass(frozen=True)
class TubuleKind:
    """Wall of a kind of tubule: epithelial height (mean, deviation) in um and amounts of material."""

    height_um: tuple[float, float]
    cytoplasm: float
    haze: float
    brush: float
    lumen: float


PROXIMAL = TubuleKind((14.0, 3.2), 104, 7, 50, 12)
DISTAL = TubuleKind((8.0, 1.8), 64, 12, 0, 3)
COLLECTING = TubuleKind((9.0, 1.6), 52, 9, 0, 2)
THIN = TubuleKind((3.4, 0.8), 46, 9, 0, 3)
KINDS = (PROXIMAL, DISTAL, COLLECTING, THIN)


@dataclass(frozen=True)
class Ground:
    """The painted ground and the nuclei to be drawn over it at full resolution."""

    image: np.ndarray
    nuclei: Nuclei


def paint_ground(
    rng: np.random.Generator,
    tissue: Tissue,
    structures: list[Placed],
    shape: tuple[int, int],
    ground_um: float,
    look: Look,
) -> Ground:
    """Paint all tissue but the placed structures, for which room is left.

    The image has ``shape`` (rows, columns) pixels of ``ground_um``.
    """
    inside = np.zeros(shape, bool)
    for outline in tissue.outlines:
        inside |= fill_outline(shape, outline / ground_um)
    labels, depth, kinds = _tubule_cells(rng, tissue, structures, shape, ground_um, look)
    # The kind of a tubule and one of _STYLES variants of it in one byte, so that properties are small look-up tables.
    styles = (kinds * _STYLES + rng.integers(_STYLES, size=len(kinds))).astype(np.uint8)[labels]
    fibrosis = np.maximum(smooth_noise(rng, shape, 420 / ground_um) - 0.7 + look.fibrosis, 0)
    depth = _rounded(depth * ground_um, ground_um) - (0.9 + 5.0 * fibrosis)
    depth += 0.7 * tiled_noise(rng, shape, 3.0 / ground_um)
    walls = _wall_heights(rng, look.wall_scale)
    image = _paint_cells(rng, styles, walls, depth, fibrosis, ground_um)
    _paint_capsule(rng, tissue, image, depth, ground_um)
    return Ground(image, _nuclei(rng, styles, walls, depth, inside, fibrosis, ground_um))


def _tubule_cells(
    rng: np.random.Generator,
    tissue: Tissue,
    structures: list[Placed],
    shape: tuple[int, int],
    ground_um: float,
    look: Look,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells around short curved (cortex) and long straight (medulla, rays) axes, with the kind of each cell.

    Depths are in px of ``ground_um``.
    """
    width, height = tissue.size_um
    spots = jittered_points(rng, tissue.size_um, look.tubule_spacing_um)
    curved = spots[tissue.at(tissue.mask & ~tissue.straight, spots)]
    heading = smooth_noise(rng, tissue.mask.shape, 260 / COARSE_UM) * 2.2
    axes = _walk(rng, tissue, curved, heading, rng.gamma(1.6, 13.0, len(curved)).clip(0, 60), turn=0.75)

    across, along = _STRAIGHT_SPACING_UM
    straight = []
    reach = float(np.hypot(width, height))
    bins = np.round(tissue.angle / 0.15)
    for step in np.unique(bins[tissue.mask & tissue.straight]):
        grid = jittered_points(rng, (2 * reach, 2 * reach * across / along), across, jitter=0.2)
        grid = grid * (1, along / across) - reach
        grid[:, 1] += rng.uniform(-0.5, 0.5, len(grid)) * along
        cos, sin = np.cos(np.pi / 2 - 0.15 * step), np.sin(np.pi / 2 - 0.15 * step)
        grid = grid @ np.array([[cos, -sin], [sin, cos]]) + (width / 2, height / 2)
        grid = grid[(grid >= 0).all(axis=1) & (grid < (width, height)).all(axis=1)]
        straight.append(grid[tissue.at(tissue.mask & tissue.straight & (bins == step), grid)])
    starts = np.concatenate([np.zeros((0, 2)), *straight])
    axes_straight = _walk(rng, tissue, starts, tissue.angle, rng.uniform(0.5, 0.95, len(starts)) * along, turn=0.03)

    seeds = np.full(shape, 255, np.uint8)
    paths = np.concatenate([axes, axes_straight]) / ground_um
    cv2.polylines(seeds, list(np.round(paths).astype(np.int32)), False, 0, 1)
    for placed in structures:
        points = np.round(placed.outline / ground_um).astype(np.int32)
        cv2.fillPoly(seeds, [points], 255)
        cv2.polylines(seeds, [points], True, 255, int(22 / ground_um))
        core = placed.centre + (placed.outline - placed.centre) * max(0.0, 1 - 13 / placed.reach_um)
        cv2.fillPoly(seeds, [np.round(core / ground_um).astype(np.int32)], 0)
    labels, depth = cell_depth(seeds)
    kinds = np.zeros(int(labels.max()) + 1, np.uint8)
    cortical = rng.choice([0, 1, 2], len(axes), p=[0.70, 0.21, 0.09])
    medullary = rng.choice([0, 1, 2, 3], len(axes_straight), p=[0.30, 0.28, 0.26, 0.16])
    middle = paths[:, paths.shape[1] // 2]
    kinds[lookup(labels, middle)] = np.concatenate([cortical, medullary])
    return labels, depth, kinds


def _walk(
    rng: np.random.Generator, tissue: Tissue, starts: np.ndarray, heading: np.ndarray, length: np.ndarray, turn: float
) -> np.ndarray:
    """Paths (n, 5, 2) of the stated ``length`` in um that start along the coarse map ``heading`` and wander."""
    points, angle = [starts], tissue.at(heading, starts) + rng.normal(0, turn, len(starts))
    for _ in range(4):
        step = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (length / 4)[:, None]
        points.append(points[-1] + step)
        angle = angle + rng.normal(0, turn, len(starts))
    return np.stack(points, axis=1)


def _rounded(depth_um: np.ndarray, ground_um: float) -> np.ndarray:
    """``depth_um`` with the corners of the cells rounded off, as tubules are where three meet."""
    beyond = distance_px(depth_um <= _ROUNDING_UM) * ground_um
    return np.where(depth_um > _ROUNDING_UM, depth_um, _ROUNDING_UM - beyond)


def _wall_heights(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Height of the epithelium in um for each style (kind and variant); a few are flattened."""
    mean, deviation = np.repeat([kind.height_um for kind in KINDS], _STYLES, axis=0).T
    heights = np.maximum(2.0, scale * (mean + deviation * rng.standard_normal(len(mean))))
    return np.where(rng.random(len(mean)) < 0.05, 3.5, heights)


def _paint_cells(
    rng: np.random.Generator,
    styles: np.ndarray,
    walls: np.ndarray,
    depth: np.ndarray,
    fibrosis: np.ndarray,
    ground_um: float,
) -> np.ndarray:
    """Materials of every pixel from how deep (um) it lies in which tubule; negative depth is interstitium.

    Works in bands of rows as high as the noise repeats, which is twice as fast as all at once.
    """
    kinds = [kind for kind in KINDS for _ in range(_STYLES)]
    tinge = rng.normal(1, 0.13, len(kinds)).clip(0.6, 1.4)
    tables = {
        "wall": walls,
        "cytoplasm": [kind.cytoplasm * tone for kind, tone in zip(kinds, tinge, strict=True)],
        "lumen": [kind.lumen for kind in kinds],
        "haze": [kind.haze for kind in kinds],
        "brush": [kind.brush for kind in kinds],
    }
    tables = {name: np.asarray(values, np.float32) for name, values in tables.items()}
    scales = {"grain": 0.9, "fibre": 1.3, "rim": 2.6, "loose": 6.0}
    band = (NOISE_ROWS, styles.shape[1])
    noise = {name: tiled_noise(rng, band, scale / ground_um) for name, scale in scales.items()}
    image = np.empty((*styles.shape, 3), np.uint8)
    for top in range(0, len(styles), NOISE_ROWS):
        rows = slice(top, min(top + NOISE_ROWS, len(styles)))
        local = {name: values[: rows.stop - top] for name, values in noise.items()}
        of = {name: cv2.LUT(styles[rows], table) for name, table in tables.items()}
        image[rows] = _paint_band(depth[rows], fibrosis[rows], of, local)
    return image


def _paint_band(
    depth: np.ndarray, fibrosis: np.ndarray, of: dict[str, np.ndarray], noise: dict[str, np.ndarray]
) -> np.ndarray:
    """Materials of some rows; ``of`` holds the properties of the tubule at each pixel."""
    edge = depth - of["wall"] - 1.2 * noise["rim"]
    in_tubule = np.clip(depth + 0.5, 0, 1)
    lumen = np.clip(edge / 1.4 + 0.5, 0, 1) * in_tubule
    wall = in_tubule - lumen
    apical = np.exp(-((edge + 0.9) ** 2) / 3.5) * wall
    oedema = 1 - 0.9 * np.clip(1.1 * noise["loose"] - 0.25 - 1.5 * fibrosis, 0, 1)
    stroma = (1 - in_tubule) * oedema * (1 + 0.35 * noise["fibre"])
    scar = np.minimum(fibrosis, 1)
    secretion = np.maximum(0.3 + 0.6 * noise["loose"] + 0.4 * noise["grain"], 0)

    haze = wall * of["haze"] + 7 * stroma
    cytoplasm = wall * of["cytoplasm"] * (1 + 0.13 * noise["grain"]) + lumen * of["lumen"] * secretion
    cytoplasm += stroma * (44 + 10 * noise["loose"])
    matrix = 8 * wall + apical * of["brush"] + stroma * (30 + 26 * scar)
    matrix += np.exp(-((depth - 0.2) ** 2) / 1.1) * (84 + 60 * scar)
    return to_uint8(haze, cytoplasm, matrix)


def _paint_capsule(
    rng: np.random.Generator, tissue: Tissue, image: np.ndarray, depth: np.ndarray, ground_um: float
) -> None:
    """The fibrous capsule along edges that have one; also marks it as stroma in ``depth``."""
    shape = image.shape[:2]
    below = cv2.resize(tissue.capsule_depth_um, shape[::-1], interpolation=cv2.INTER_LINEAR)
    if below.min() > 60:
        return
    below += 6 * smooth_noise(rng, shape, 60 / ground_um)
    capsule = below < 42
    waves = smooth_noise(rng, shape, 90 / ground_um)[capsule]
    strands = 0.5 + 0.5 * np.sin(below[capsule] * 0.9 + 2.0 * waves)
    image[capsule] = np.stack([6 + 0 * strands, 38 + 45 * strands, 30 + 50 * strands], axis=1).astype(np.uint8)
    depth[capsule] = -4.0


def _nuclei(
    rng: np.random.Generator,
    styles: np.ndarray,
    walls: np.ndarray,
    depth: np.ndarray,
    inside: np.ndarray,
    fibrosis: np.ndarray,
    ground_um: float,
) -> Nuclei:
    """Nuclei of epithelium (round, in a row above the basement membrane) and of the interstitium (flat)."""
    height, width = styles.shape
    spots = jittered_points(rng, (width * ground_um, height * ground_um), 7.4)
    spots = spots[lookup(inside, spots / ground_um)]
    at = spots / ground_um
    level, style = lookup(depth, at), lookup(styles, at)
    kind = style // _STYLES
    row_to = np.minimum(np.array([8.0, 5.6, 6.0, 2.8])[kind], walls[style] - 0.5)
    row_from = np.minimum(np.array([3.2, 2.2, 2.4, 0.8])[kind], 0.4 * row_to)
    epithelial = (level > row_from) & (level < row_to)
    crowded = np.clip(0.3 + 0.5 * lookup(fibrosis, at), 0, 0.85)
    stromal = (level < 0.3) & (rng.random(len(at)) < crowded)
    radius = np.where(epithelial, rng.normal(2.7, 0.25, len(at)), rng.normal(2.1, 0.3, len(at)))
    radius[kind == KINDS.index(THIN)] *= 0.85
    stretch = np.where(epithelial, rng.uniform(0.8, 1.0, len(at)), rng.uniform(0.35, 0.95, len(at)))
    keep = epithelial | stromal
    return Nuclei.make(rng, spots[keep], np.maximum(radius[keep], 1.4), stretch[keep])
