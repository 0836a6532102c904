"""Where tissue lies on the slide and what part of the kidney it is. All coordinates in um, slide frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocess.synthetic.fields import fill_outline, lookup, smooth_noise

COARSE_UM = 8.0
"""Pixel size of the zone maps."""


@dataclass(frozen=True)
class Tissue:
    """Pieces of tissue and coarse maps (``COARSE_UM`` per pixel) of their zones."""

    size_um: tuple[float, float]
    outlines: list[np.ndarray]
    """One closed outline (n, 2) per piece."""
    mask: np.ndarray
    cortex: np.ndarray
    """bool: cortex, where glomeruli may lie; what is not cortex is medulla."""
    straight: np.ndarray
    """bool: straight tubules (medulla and the rays that reach into the cortex)."""
    angle: np.ndarray
    """float32: direction of the straight tubules, in radians."""
    capsule_depth_um: np.ndarray
    """float32: distance below the renal capsule; large where the piece has none."""

    def at(self, values: np.ndarray, points_um: np.ndarray) -> np.ndarray:
        """Values of one of the coarse maps at points (n, 2)."""
        return lookup(values, points_um / COARSE_UM)


def make_tissue(rng: np.random.Generator, kind: str, size_um: tuple[float, float]) -> Tissue:
    """Lay out a ``wedge`` or needle ``cores`` on a slide of ``size_um`` (width, height)."""
    width, height = size_um
    shape = (int(np.ceil(height / COARSE_UM)), int(np.ceil(width / COARSE_UM)))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) * COARSE_UM + COARSE_UM / 2
    pieces = [_wedge(rng, size_um)] if kind == "wedge" else _cores(rng, size_um)
    maps = [np.zeros(shape, bool) for _ in range(3)]
    angle = np.zeros(shape, np.float32)
    depth = np.full(shape, 1e6, np.float32)
    outlines = []
    for piece in pieces:
        outline = piece.outline(rng)
        outlines.append(outline)
        inside = fill_outline(shape, outline / COARSE_UM - 0.5)
        along, below = piece.to_local(x, y)
        wave = smooth_noise(rng, shape, 700 / COARSE_UM)
        medulla = below > piece.cortex_um + 90 * wave
        ray_phase = (along + 50 * wave) / piece.ray_spacing_um
        ray = (np.abs(ray_phase - np.round(ray_phase)) * piece.ray_spacing_um < 60) & (below > 250)
        for target, values in zip(maps, (inside, ~medulla, medulla | ray), strict=True):
            target[inside] = values[inside]
        angle[inside] = (piece.turn + np.pi / 2 + 0.14 * wave)[inside]
        if piece.has_capsule:
            depth[inside] = (below - piece.top(along))[inside]
    # A margin of two coarse pixels, so that the capsule reaches the outline that the coarse mask only follows.
    depth = np.where(maps[0], depth, cv2.erode(depth, np.ones((5, 5), np.uint8)))
    return Tissue(size_um, outlines, maps[0], maps[1], maps[2], angle, depth)


@dataclass(frozen=True)
class _Piece:
    """A piece in its own frame: ``along`` the capsule and ``below`` it, around ``centre``, turned by ``turn``."""

    centre: tuple[float, float]
    turn: float
    half_width: float
    half_depth: float
    cortex_um: float
    ray_spacing_um: float
    bend: float
    roughness_um: float
    has_capsule: bool

    def top(self, along: np.ndarray) -> np.ndarray:
        """Depth of the upper edge at ``along``: a shallow bow."""
        return self.bend * (np.asarray(along) / self.half_width) ** 2

    def to_local(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dx, dy = x - self.centre[0], y - self.centre[1]
        along = dx * np.cos(self.turn) + dy * np.sin(self.turn)
        return along, -dx * np.sin(self.turn) + dy * np.cos(self.turn) + self.half_depth

    def outline(self, rng: np.random.Generator) -> np.ndarray:
        """The closed outline in slide coordinates, with cut edges rougher than the capsule."""
        w, d = self.half_width, 2 * self.half_depth
        taper = rng.uniform(0.85, 1.0)
        across = np.linspace(-w, w, max(8, int(2 * w / 6)))
        down = np.linspace(0, d, max(8, int(d / 6)))[1:-1]
        top = np.stack([across, self.top(across)], axis=1)
        side = np.stack([w * (1 - (1 - taper) * down / d), down + self.bend * (1 - down / d)], axis=1)
        bottom = np.stack([across[::-1] * taper, d + self.top(across[::-1])], axis=1)
        points = np.concatenate([top, side, bottom, side[::-1] * (-1, 1)])
        roughness = np.full(len(points), self.roughness_um)
        if self.has_capsule:
            roughness[: len(top)] = 1.2
        points += _rough(rng, len(points)) * roughness[:, None]
        along, below = points[:, 0], points[:, 1] - self.half_depth
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return np.stack([along * cos - below * sin, along * sin + below * cos], axis=1) + self.centre


def _rough(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 2) displacement along an outline: broad undulation plus fine fraying."""
    octaves = ((60, 3.0), (14, 1.0), (3, 0.4))
    axes = [sum(smooth_noise(rng, (1, count), wave)[0] * weight for wave, weight in octaves) for _ in range(2)]
    return np.stack(axes, axis=1)


def _wedge(rng: np.random.Generator, size_um: tuple[float, float]) -> _Piece:
    width, height = size_um
    half_width, half_depth = width * rng.uniform(0.40, 0.43), height * rng.uniform(0.385, 0.41)
    return _Piece(
        centre=(width / 2 + rng.normal(0, width * 0.008), height / 2 + rng.normal(0, height * 0.008)),
        turn=float(rng.uniform(-0.1, 0.1) + (np.pi if rng.random() < 0.5 else 0)),
        half_width=half_width,
        half_depth=half_depth,
        cortex_um=2 * half_depth * rng.uniform(0.58, 0.74),
        ray_spacing_um=rng.uniform(620, 820),
        bend=height * rng.uniform(0.02, 0.06),
        roughness_um=9.0,
        has_capsule=True,
    )


def _cores(rng: np.random.Generator, size_um: tuple[float, float]) -> list[_Piece]:
    """Two or three needle cores, one above the other; their length runs along ``below``."""
    width, height = size_um
    count = int(rng.integers(2, 4))
    pieces = []
    for index in range(count):
        length = width * rng.uniform(0.82, 0.92)
        thickness = height / count * rng.uniform(0.66, 0.78)
        if count == 2:
            thickness *= 0.8
        pieces.append(
            _Piece(
                centre=(width / 2, height * (index + 0.5) / count),
                turn=float(rng.uniform(-0.03, 0.03) + (np.pi / 2 if rng.random() < 0.5 else -np.pi / 2)),
                half_width=thickness / 2,
                half_depth=length / 2,
                cortex_um=length * rng.uniform(0.72, 1.05),
                ray_spacing_um=rng.uniform(420, 560),
                bend=thickness * rng.uniform(0.05, 0.15),
                roughness_um=7.0,
                has_capsule=bool(rng.random() < 0.5),
            )
        )
    return pieces
