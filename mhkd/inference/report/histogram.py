"""How a number is spread over the detections of each class: counts in fixed bins, and bars to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mhkd.inference.export.features import hex_color
from mhkd.structures import SlideDetections

DIAMETER_EDGES_UM = tuple(range(0, 401, 20))
SCORE_EDGES = tuple(round(i / 20, 2) for i in range(21))


def count_bins(values: ArrayLike, detections: SlideDetections, edges: Sequence[float]) -> dict[str, Any]:
    """(N,) ``values`` of the detections in the bins of ``edges``, by class, as plain JSON.

    A bin holds its lower edge; the last one holds its upper edge too. ``above`` counts what lies beyond the last
    edge. The bins are the same for every slide, so that slides can be compared and added up.
    """
    array = np.asarray(values, dtype=np.float64)
    of_class = {name: array[detections.labels == i] for i, name in enumerate(detections.class_names)}
    return {
        "edges": list(edges),
        "by_class": {name: np.histogram(part, edges)[0].tolist() for name, part in of_class.items()},
        "above": {name: int((part > edges[-1]).sum()) for name, part in of_class.items()},
    }


@dataclass(frozen=True)
class Bar:
    """One class in one bin, in a drawing of 1000 x 100 units (y downwards), and the words for it."""

    x: float
    y: float
    width: float
    height: float
    color: str
    title: str


def bars(histogram: Mapping[str, Any], unit: str = "") -> list[Bar]:
    """The bars of what ``count_bins`` gave, classes stacked, ``above`` as the last bin; none where all is empty."""
    columns = {name: [*counts, histogram["above"][name]] for name, counts in histogram["by_class"].items()}
    edges = histogram["edges"]
    names = [f"{low:g} to {high:g}{unit}" for low, high in pairwise(edges)]
    names.append(f"more than {edges[-1]:g}{unit}")
    tallest, width = tallest_bin(histogram), 1000 / len(names)
    drawn = []
    for index, where in enumerate(names):
        top = 100.0
        for label, (name, counts) in enumerate(columns.items()):
            if counts[index]:
                height = 100 * counts[index] / tallest
                top -= height
                place = round(index * width + 1, 2), round(top, 2), round(width - 2, 2), round(height, 2)
                drawn.append(Bar(*place, hex_color(label), f"{where}: {counts[index]} {name}"))
    return drawn


def tallest_bin(histogram: Mapping[str, Any]) -> int:
    """The largest number of detections in one bin, all classes together."""
    columns = [[*counts, histogram["above"][name]] for name, counts in histogram["by_class"].items()]
    return max((sum(column) for column in zip(*columns, strict=True)), default=0)
