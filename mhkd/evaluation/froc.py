"""FROC: how many objects are found at how many false detections per slide, or per mm2 of tissue."""

from __future__ import annotations

import numpy as np

from mhkd.evaluation.matching import Matches

PER_SLIDE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # as in CAMELYON16
PER_MM2 = (0.01, 0.03, 0.1, 0.3, 1.0)


def sensitivity_at(
    matches: Matches, amounts: np.ndarray, rates: tuple[float, ...], weights: np.ndarray | None = None
) -> np.ndarray:
    """The share of the true objects found at no more than each of ``rates`` false detections per unit: (B, R).

    amounts: (I,) what each image holds of the unit (1 slide, so many mm2 of tissue). weights: (B, I), by default each
    image once. The threshold is the lowest with at most that rate; nothing is interpolated. NaN where there is nothing
    to find or none of the unit.
    """
    weights = np.ones((1, len(amounts))) if weights is None else weights
    hits, misses = matches.cumulative(weights)
    total, units = weights @ matches.num_objects, weights @ amounts
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = [(misses <= rate * units[:, None] + 1e-9).sum(axis=1) for rate in rates]
        start = np.concatenate((np.zeros((len(weights), 1)), hits), axis=1)  # above all scores nothing is found
        found = np.stack([np.take_along_axis(start, n[:, None], axis=1)[:, 0] for n in allowed], axis=1)
        return np.where((units > 0)[:, None], found / total[:, None], np.nan)


def curve(matches: Matches, amount: float) -> tuple[np.ndarray, np.ndarray]:
    """False detections per unit of ``amount``, and the share found: (T,), (T,), from the highest threshold on."""
    hits, misses = (table[0] for table in matches.cumulative(np.ones((1, len(matches.num_objects)))))
    return misses / amount, hits / max(int(matches.num_objects.sum()), 1)
