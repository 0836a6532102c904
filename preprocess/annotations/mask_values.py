"""What the values of a mask stand for: classes, objects, blends along the edges of objects, void."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.annotations.annotation import Drawing, unused
from preprocess.annotations.class_map import ALL
from preprocess.annotations.runs import Runs, drawings_of_runs, runs_of_mask
from preprocess.base.errors import UserError

_VOID = 255
# A blend is one or two pixels wide where a mask was reduced, and as many steps where it was enlarged.
_BLEND_PX, _MIN_BLENDS = 2, 0.08
_MAX_DARK = 5
# Of the area of the one value, so much may by chance be of others.
_MAX_OTHER = 0.01
_STRIP = 256


def border_share(mask: NDArray[np.bool_]) -> float:
    """The share of the outermost pixels of ``mask`` (h, w) that it covers."""
    border = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return float(sum(np.count_nonzero(edge) for edge in border) / sum(edge.size for edge in border))


def drawings_of_values(mask: NDArray[Any], scale: float, lossy: bool = False) -> Iterator[Drawing]:
    """The areas of a mask (h, w) of whole numbers, as :func:`preprocess.annotations.runs.drawings_of_mask` gives them.

    Two values with blends between them, of a mask that was resized or saved with loss (``lossy``), are cut at half.
    A 255 beside other values that touches most of the border is background where the mask has no 0, and else a region
    to ignore.
    Raises UserError where several values were blended: along the edge of one there seem to be objects of others.
    """
    runs = runs_of_mask(mask)
    if len(np.unique(runs.values)) > 1:
        flat, counts = _flat_values(mask)
        if (
            lossy
            or _has_blends(runs, flat)
            or (not np.isin(runs.values, flat).all() and _has_blends(runs_of_mask(mask.T), flat))
        ):
            # JPEG may leave a background of 1 to 5.
            background = [value for value in flat[flat <= _MAX_DARK] if border_share(mask == value) > 0.5]
            objects = ~np.isin(flat, background)
            runs = _cut_at_half(runs, flat[objects], counts[objects])
    void = runs.values == _VOID
    if void.any() and not void.all() and border_share(mask == _VOID) > 0.5:
        if (runs.stops - runs.starts).sum() < mask.size:
            for drawing in drawings_of_runs(runs.select(void), scale):
                yield replace(drawing, label=ALL, ignore=True)
        else:
            yield unused("255 as background")
        runs = runs.select(~void)
    yield from drawings_of_runs(runs, scale)


def _has_blends(runs: Runs, flat: NDArray[Any]) -> bool:
    """Whether more lines across objects have blends than chance makes, or any with a value that is none of ``flat``."""
    blends = _blends(runs)
    return bool(
        blends.sum() > _MIN_BLENDS * (len(runs.values) - _touching(runs).sum())
        or (blends & ~np.isin(runs.values, flat)).any()
    )


def _touching(runs: Runs) -> NDArray[np.bool_]:
    """Which of the N - 1 later runs follow the one before without a gap."""
    return np.asarray((runs.rows[1:] == runs.rows[:-1]) & (runs.starts[1:] == runs.stops[:-1]))


def _blends(runs: Runs) -> NDArray[np.bool_]:
    """Which runs are short and have a value between those on their two sides, as the edges of blended objects."""
    before = _touching(runs)
    values = runs.values.astype(np.int64)
    left = np.where(np.append(False, before), np.append(0, values[:-1]), 0)
    right = np.where(np.append(before, False), np.append(values[1:], 0), 0)
    between = (np.minimum(left, right) < values) & (values < np.maximum(left, right))
    return between & (runs.stops - runs.starts <= _BLEND_PX)


def _cut_at_half(runs: Runs, values: NDArray[Any], counts: NDArray[np.int64]) -> Runs:
    """What is nearer to the one value of all areas than to 0, as that value; UserError where they have several.

    ``values`` are those that areas have, and ``counts`` their pixels.
    """
    full = int(values[counts.argmax()]) if len(values) else 0
    if not full or counts[values != full].sum() > _MAX_OTHER * counts.max():
        raise UserError(
            "its values are blended along the edges of objects, where other classes or objects seem to be",
            remedy="resize masks by the nearest neighbour, and save them as PNG or TIFF without JPEG",
        )
    kept = runs.select(2 * runs.values.astype(np.int64) >= full)
    return replace(kept, values=np.full_like(kept.values, full))


def _flat_values(mask: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The values other than 0 that have pixels whose four neighbours are the same, and how many of each."""
    found = []
    for top in range(1, mask.shape[0] - 1, _STRIP):
        part = mask[top - 1 : min(top + _STRIP, mask.shape[0] - 1) + 1]
        inner = part[1:-1, 1:-1]
        around = (part[:-2, 1:-1], part[2:, 1:-1], part[1:-1, :-2], part[1:-1, 2:])
        flat = (inner != 0) & np.logical_and.reduce([inner == other for other in around])
        found.append(inner[flat])
    return np.unique(np.concatenate(found or [mask[:0].ravel()]), return_counts=True)
