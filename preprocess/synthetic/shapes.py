"""Glomerulus outlines and sizes as real ones have them: a small statistical model kept as package data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

DATA_FILE = Path(__file__).with_name("data") / "glomerulus_shapes.json"


@dataclass(frozen=True)
class ShapeClass:
    """Sizes and shapes of one class of glomeruli (``Normal`` or ``Sclerotic``)."""

    diameter_quantiles_um: np.ndarray
    """Evenly spaced quantiles, from the smallest to the largest, of the equal-area diameter in um."""
    profiles: np.ndarray
    """(contours, angles): distance of the outline from its centroid over its equal-area radius."""


@cache
def shape_model() -> dict[str, ShapeClass]:
    """The classes of the model, by name."""
    model = json.loads(DATA_FILE.read_text(encoding="utf-8"))
    return {
        name: ShapeClass(
            np.asarray(values["diameter_quantiles_um"], dtype=float),
            np.asarray(values["radius_profiles_permille"], dtype=float) / 1000,
        )
        for name, values in model["classes"].items()
    }


def sample_diameter_um(rng: np.random.Generator, name: str) -> float:
    """An equal-area diameter in um; the largest and smallest percent, mostly slips of outlining, are left out."""
    quantiles = shape_model()[name].diameter_quantiles_um
    return float(np.interp(rng.uniform(0.01, 0.99), np.linspace(0, 1, len(quantiles)), quantiles))


def sample_contour(rng: np.random.Generator, name: str, diameter_um: float) -> np.ndarray:
    """A closed outline around (0, 0), float (96, 2) in um, of exactly the stated equal-area diameter.

    One of the real radius profiles, turned and perhaps mirrored at random, smoothed a little.
    """
    profiles = shape_model()[name].profiles
    profile = profiles[rng.integers(len(profiles))]
    if rng.random() < 0.5:
        profile = profile[::-1]
    spectrum = np.fft.rfft(profile)
    spectrum *= np.exp(-((np.arange(len(spectrum)) / 14) ** 2))
    radius = np.fft.irfft(spectrum, len(profile))
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.interp(angles, np.linspace(0, 2 * np.pi, len(radius) + 1), np.append(radius, radius[0]))
    turned = angles + rng.uniform(0, 2 * np.pi)
    points = radius[:, None] * np.stack([np.cos(turned), np.sin(turned)], axis=1)
    return points * (diameter_um / equal_area_diameter(points))


def equal_area_diameter(points: np.ndarray) -> float:
    """Diameter of the circle whose area is that of the closed outline ``points`` (n, 2), in the unit of the points."""
    x, y = points[:, 0], points[:, 1]
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return float(2 * np.sqrt(area / np.pi))
