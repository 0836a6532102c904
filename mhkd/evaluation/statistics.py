"""Statistics of figures by slide: intervals from resampled patients, and the agreement of counts.

Slides of one patient are not independent of each other, so patients are resampled. What was matched stays matched: a
draw only says how many times each slide counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 0.95
LIMITS = 1.96  # standard deviations; holds 95 % of normal differences
_CELLS = 4_000_000  # of a table of draws and detections, to bound the memory

Statistics = Callable[[np.ndarray], dict[str, np.ndarray]]
"""From weights of the slides, (B, I), to figures by name, (B,) each, NaN where one has no meaning."""


def draw_weights(patients: Sequence[str], draws: int, seed: int = 0) -> np.ndarray:
    """How many times each slide counts in each draw.

    Each draw takes as many patients as there are, with replacement, and all slides of each. The same patients in the
    same order give the same draws, so that metrics of two models can be paired.

    Args:
        patients: that of each slide.

    Returns:
        (draws, len(patients)) float64.
    """
    names, of_slide = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    chosen = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return chosen[:, of_slide].astype(float)


def resample(statistics: Statistics, weights: np.ndarray, num_detections: int) -> dict[str, np.ndarray]:
    """``statistics`` for all draws of ``weights``, (B, I), a part of them at a time: (B,) by name.

    num_detections: of all slides, which bounds how many draws are held in memory at once.
    """
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


def agreement(true: np.ndarray, found: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """How two counts of n slides agree.

    Args:
        true: (n,) objects that are there.
        found: (n,) detections.
        weights: (B, n) how many times each slide counts, by default once.

    Returns:
        Each (B,), NaN where there are too few slides or they are all alike. ``bias``: mean of found - true. ``lower``,
        ``upper``: Bland and Altman's limits of agreement, bias -+ 1.96 standard deviations (n - 1) of the differences.
        ``icc``: ICC(2,1), see :func:`icc_2_1`. ``mean_absolute_error``.
    """
    weights = np.ones((1, len(true))) if weights is None else weights
    difference = np.asarray(found, float) - np.asarray(true, float)
    n = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = weights @ difference / n
        spread = (weights * (difference - bias[:, None]) ** 2).sum(axis=1)
        deviation = np.sqrt(np.where(n > 1, spread / (n - 1), np.nan))
        return {
            "bias": bias,
            "lower": bias - LIMITS * deviation,
            "upper": bias + LIMITS * deviation,
            "icc": icc_2_1(np.stack((true, found), axis=1), weights),
            "mean_absolute_error": weights @ np.abs(difference) / n,
        }


def icc_2_1(ratings: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Intraclass correlation ICC(2,1) of Shrout and Fleiss (1979): two-way random effects, absolute agreement, single
    rater. A rater that counts 10 % too many is punished, as it would not be by ICC(3,1) or a correlation.

    Args:
        ratings: (n targets, k raters).
        weights: (B, n) how many times each target counts, by default once.

    Returns:
        (B,); NaN where the variance is zero or there are fewer than two targets.
    """
    ratings = np.asarray(ratings, dtype=float)
    weights = np.ones((1, len(ratings))) if weights is None else weights
    k, n = ratings.shape[1], weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        raters = weights @ ratings / n[:, None]  # (B, k)
        grand = raters.mean(axis=1)
        targets = ratings.mean(axis=1)
        ss_targets = k * (weights * (targets - grand[:, None]) ** 2).sum(axis=1)
        ss_raters = n * ((raters - grand[:, None]) ** 2).sum(axis=1)
        ss_total = (weights[:, :, None] * (ratings - grand[:, None, None]) ** 2).sum(axis=(1, 2))
        ms_targets, ms_raters = ss_targets / (n - 1), ss_raters / (k - 1)
        ms_error = np.maximum(ss_total - ss_targets - ss_raters, 0.0) / ((n - 1) * (k - 1))
        below = ms_targets + (k - 1) * ms_error + k * (ms_raters - ms_error) / n
        return np.where((n > 1) & (below > 1e-12), (ms_targets - ms_error) / below, np.nan)
