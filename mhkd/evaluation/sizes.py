"""Results by the size of the objects, in micrometres."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mhkd.evaluation.matching import Matches
from mhkd.evaluation.scored_slide import SlideCase

SIZE_EDGES_UM = (100.0, 150.0, 200.0)


def equivalent_diameter_um(boxes_l0: np.ndarray, mpp: float) -> np.ndarray:
    """(N, 4) -> (N,): the diameter of the circle with the area of the ellipse in each box, in micrometres."""
    return np.sqrt(np.prod(boxes_l0[:, 2:] - boxes_l0[:, :2], axis=1)) * mpp


@dataclass(frozen=True)
class SizeBins:
    """Counts by size and slide, (bins, I): true objects, those found, and wrong detections by their own size."""

    edges_um: tuple[float, ...]
    num_objects: np.ndarray
    right: np.ndarray
    wrong: np.ndarray

    @classmethod
    def of(
        cls,
        cases: Sequence[SlideCase],
        matches: Matches,
        score_thresh: float,
        edges_um: tuple[float, ...] = SIZE_EDGES_UM,
    ) -> SizeBins:
        """From the matches of ``cases``, at ``score_thresh``; ``edges_um`` part the bins, a size on one is above it."""
        shape = (len(edges_um) + 1, len(cases))
        num_objects, right, wrong = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for i, case in enumerate(cases):
            true = np.digitize(equivalent_diameter_um(case.truth.boxes_l0, case.mpp), edges_um)
            own = np.digitize(equivalent_diameter_um(case.found.boxes_l0, case.mpp), edges_um)
            here = (matches.image == i) & (matches.scores >= score_thresh)
            np.add.at(num_objects[:, i], true[~case.truth.ignore], 1)
            np.add.at(right[:, i], true[matches.taken[here & matches.correct]], 1)
            np.add.at(wrong[:, i], own[matches.found[here & ~matches.correct]], 1)
        return cls(edges_um, num_objects, right, wrong)

    @property
    def names(self) -> list[str]:
        """Such as ``<100``, ``100-150``, ``>=150``."""
        edges = [f"{edge:g}" for edge in self.edges_um]
        return [f"<{edges[0]}", *map("-".join, itertools.pairwise(edges)), f">={edges[-1]}"]

    def recall(self, weights: np.ndarray) -> np.ndarray:
        """Where slide i counts ``weights[:, i]`` times, (B, I): (B, bins), NaN in a bin without objects."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (weights @ self.right.T) / (weights @ self.num_objects.T)

    def f1(self, weights: np.ndarray) -> np.ndarray:
        """As :meth:`recall`, NaN in a bin without objects and without wrong detections."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return 2 * (weights @ self.right.T) / (weights @ (self.right + self.wrong + self.num_objects).T)
