"""Confidence intervals by resampling patients: slides of one patient are not independent of each other.

What was matched stays matched. A draw only says how many times each slide counts, so that a thousand draws cost as
many weighted sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 0.95
_CELLS = 4_000_000  # of a table of draws and detections, to bound the memory

Statistics = Callable[[np.ndarray], dict[str, np.ndarray]]
"""From weights of the slides, (B, I), to figures by name, (B,) each, NaN where one has no meaning."""


def draw_weights(patients: Sequence[str], draws: int, seed: int = 0) -> np.ndarray:
    """How many times each slide counts in each draw: (draws, len(patients)) float.

    patients[i] is that of slide i. Each draw takes as many patients as there are, with replacement, and all slides of
    each. The same patients in the same order give the same draws, so that figures of two models can be paired.
    """
    names, of_slide = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    chosen = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return chosen[:, of_slide].astype(float)


def resample(statistics: Statistics, weights: np.ndarray, num_detections: int) -> dict[str, np.ndarray]:
    """``statistics`` for all draws of ``weights``, (B, I), a part of them at a time: (B,) by name."""
    num_parts = max(1, -(-len(weights) * max(num_detections, 1) // _CELLS))
    parts = [statistics(part) for part in np.array_split(weights, num_parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(samples: np.ndarray) -> list[float] | None:
    """The central 95 % of ``samples``, [low, high]; None where fewer than half of the draws give the figure meaning."""
    valid = samples[np.isfinite(samples)]
    if 2 * len(valid) < max(len(samples), 1):
        return None
    low, high = np.quantile(valid, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]
