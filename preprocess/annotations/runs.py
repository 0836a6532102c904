"""Runs of pixels, as masks and run-length codes have them, as exact polygons along the pixels' edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon

from preprocess.annotations.annotation import UNCLASSIFIED, Drawing, check_coordinates
from preprocess.annotations.outlines import Integers, area_of_runs
from preprocess.base.errors import UserError
from preprocess.base.geometry import Size

# 1000 glomeruli of 1000 lines each; noise has more, and would take all memory.
_MAX_RUNS = 1_000_000
_MAX_CLASSES, _MAX_OBJECTS = 32, 100_000
# Fewer values with a group each may be classes with an object each.
_MAX_UNNUMBERED = 5
_STRIP, _MAX_SIDE = 256, 1 << 24


@dataclass(frozen=True)
class Runs:
    """The runs of one value other than 0 in an image of ``size``, row by row from the left; N of each.

    Run i is the pixels ``starts[i]`` to ``stops[i]`` (exclusive) of row ``rows[i]``, and has ``values[i]``.
    """

    rows: Integers
    starts: Integers
    stops: Integers
    values: NDArray[Any]
    size: Size

    def select(self, chosen: NDArray[Any]) -> Runs:
        """Those that ``chosen``, a mask of N or an order, picks."""
        return Runs(self.rows[chosen], self.starts[chosen], self.stops[chosen], self.values[chosen], self.size)


def area_of_column_runs(starts: Integers, lengths: Integers, size: Size) -> MultiPolygon:
    """What runs cover that count the pixels of an image down its columns, from 0 (Kaggle, COCO).

    A run may go on in the next column. Raises ValueError where a run leaves the image.
    """
    if max(size.width, size.height) > _MAX_SIDE:
        raise ValueError(f"no image has {size.width} x {size.height} px")
    if len(starts) != len(lengths) or (lengths < 0).any():
        raise ValueError("a run without a length")
    starts, lengths = starts[lengths > 0], lengths[lengths > 0]
    stops = starts + lengths
    if len(starts) and (starts.min() < 0 or stops.max() > size.width * size.height):
        raise ValueError(f"a run leaves the {size.width} x {size.height} px of its image")
    columns = (stops - 1) // size.height - starts // size.height + 1
    _check_number(int(columns.sum()))
    # One piece per run and column.
    run = np.repeat(np.arange(len(starts)), columns)
    column = starts[run] // size.height + np.arange(len(run)) - np.repeat(np.cumsum(columns) - columns, columns)
    top = np.maximum(starts[run], column * size.height) - column * size.height
    bottom = np.minimum(stops[run], (column + 1) * size.height) - column * size.height
    return _transposed(area_of_runs(column, top, bottom))


def drawings_of_mask(mask: NDArray[Any], scale: float, offset: tuple[float, float] = (0.0, 0.0)) -> Iterator[Drawing]:
    """The areas of a mask (h, w) of whole numbers, 0 being background.

    A mask of 8 bits holds classes: each value is a label, unless there is only one, and each group of its
    pixels that share edges is an object. One of more bits holds objects: each value is one, without a label. So
    does one of 8 bits whose values are 1 to N, more than 5, each a single group.
    ``scale`` is how many level-0 pixels a pixel spans, ``offset`` where the mask begins, in its own pixels.
    """
    return drawings_of_runs(runs_of_mask(mask), scale, offset)


def drawings_of_runs(runs: Runs, scale: float, offset: tuple[float, float] = (0.0, 0.0)) -> Iterator[Drawing]:
    """The areas of ``runs``, as :func:`drawings_of_mask` gives them."""
    check_coordinates(offset)
    runs = runs.select(np.argsort(runs.values, kind="stable"))
    found, first = np.unique(runs.values, return_index=True)
    pieces = [slice(*ends) for ends in pairwise([*first.tolist(), len(runs.values)])]
    areas = [area_of_runs(runs.rows[one], runs.starts[one], runs.stops[one]) for one in pieces]
    numbered = _MAX_UNNUMBERED < len(found) == found[-1] and all(len(area.geoms) == 1 for area in areas)
    has_classes = runs.values.dtype.itemsize == 1 and not numbered
    if len(found) > (_MAX_CLASSES if has_classes else _MAX_OBJECTS):
        raise UserError(
            f"{len(found)} different values are no mask of objects",
            remedy="give 0 for background and few classes in 8 bits, or objects by number in 16 or more",
        )
    for value, area in zip(found.tolist(), areas, strict=True):
        placed = shapely.transform(area, lambda xy: (xy + offset) * scale)
        yield Drawing(placed, str(value) if has_classes and len(found) > 1 else UNCLASSIFIED)


def runs_of_mask(mask: NDArray[Any]) -> Runs:
    """The runs of a mask (h, w) of whole numbers. UserError where it has more than masks of objects have."""
    found: list[tuple[Integers, Integers, Integers, NDArray[Any]]] = []
    total = 0
    for top in range(0, mask.shape[0], _STRIP):
        strip = mask[top : top + _STRIP]
        changes = np.ones((strip.shape[0], strip.shape[1] + 1), bool)
        np.not_equal(strip[:, 1:], strip[:, :-1], out=changes[:, 1:-1])
        row, edge = np.nonzero(changes)
        same_row = row[1:] == row[:-1]
        row, start, stop = row[:-1][same_row], edge[:-1][same_row], edge[1:][same_row]
        value = strip[row, start]
        row, start, stop, value = row[value != 0], start[value != 0], stop[value != 0], value[value != 0]
        found.append((row + top, start, stop, value))
        total += len(row)
        _check_number(total)
    rows, starts, stops, values = (np.concatenate(part) for part in zip(*found, strict=True))
    return Runs(rows, starts, stops, values, Size(mask.shape[1], mask.shape[0]))


def _check_number(runs: int) -> None:
    if runs > _MAX_RUNS:
        raise UserError(
            f"more than {_MAX_RUNS} runs of pixels are no outlines of objects", remedy="remove noise from the mask"
        )


def _transposed(area: MultiPolygon) -> MultiPolygon:
    return shapely.transform(area, lambda xy: xy[:, ::-1])
