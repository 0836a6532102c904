"""Do the counts of slides agree? Bias, limits of agreement and intraclass correlation, from their formulas."""

from __future__ import annotations

import numpy as np

LIMITS = 1.96  # standard deviations; holds 95 % of normal differences


def agreement(true: np.ndarray, found: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """How counts of n slides agree, both (n,); slide i counts ``weights[:, i]`` times, (B, n), by default once.

    Each figure is (B,). ``bias``: mean of found - true. ``lower``, ``upper``: Bland and Altman's limits of agreement,
    bias -+ 1.96 standard deviations (n - 1) of the differences. ``icc``: ICC(2,1), see :func:`icc_2_1`.
    ``mean_absolute_error``. NaN where there are too few slides or they are all alike.
    """
    weights = np.ones((1, len(true))) if weights is None else weights
    difference = np.asarray(found, float) - np.asarray(true, float)
    n = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = weights @ difference / n
        spread = (weights * (difference - bias[:, None]) ** 2).sum(axis=1)
        deviation = np.sqrt(np.where(n > 1, spread / (n - 1), np.nan))
        mean_absolute_error = weights @ np.abs(difference) / n
    return {
        "bias": bias,
        "lower": bias - LIMITS * deviation,
        "upper": bias + LIMITS * deviation,
        "icc": icc_2_1(np.stack((true, found), axis=1), weights),
        "mean_absolute_error": mean_absolute_error,
    }


def icc_2_1(ratings: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Intraclass correlation ICC(2,1) of Shrout and Fleiss (1979): two-way random effects, absolute agreement, single
    rater. A rater that counts 10 % too many is punished, as it would not be by ICC(3,1) or a correlation.

    ratings: (n targets, k raters). weights: (B, n), by default each target once. Gives (B,); NaN where the variance is
    zero or there are fewer than two targets.
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
