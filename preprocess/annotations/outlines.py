"""The outlines of what runs of pixels cover, exactly along the pixels' edges, in time linear in their number."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from preprocess.base.errors import UserError

Integers = NDArray[np.int64]
_MAX_RINGS = 50_000


def area_of_runs(lines: Integers, starts: Integers, stops: Integers) -> MultiPolygon:
    """What the runs cover: run i is the pixels ``starts[i]`` to ``stops[i]`` (exclusive) of row ``lines[i]``.

    Runs may touch and overlap. One polygon for each group of pixels that share edges, with
    its holes, in the order of their first lines and pixels.
    """
    if len(lines) == 0:
        return MultiPolygon()
    rings, is_hole = _trace(*_vertical_edges(*_merged(lines, starts, stops)))
    shells = [Polygon(ring) for ring, hole in zip(rings, is_hole, strict=True) if not hole]
    holes = np.array([Polygon(ring) for ring, hole in zip(rings, is_hole, strict=True) if hole], dtype=object)
    inside: list[list[shapely.LinearRing]] = [[] for _ in shells]
    if len(holes):
        areas = shapely.area(shells)
        of_hole, around = shapely.STRtree(shells).query(holes, predicate="within")
        # The smallest shell around a hole is the one that it is in.
        order = np.lexsort((around, areas[around], of_hole))
        first = order[np.unique(of_hole[order], return_index=True)[1]]
        for hole, shell in zip(of_hole[first].tolist(), around[first].tolist(), strict=True):
            inside[shell].append(holes[hole].exterior)
    polygons = [Polygon(shell.exterior, cut) for shell, cut in zip(shells, inside, strict=True)]
    return MultiPolygon(sorted(polygons, key=lambda polygon: (polygon.bounds[1], polygon.bounds[0])))


def _merged(lines: Integers, starts: Integers, stops: Integers) -> tuple[Integers, Integers, Integers]:
    """The same area in runs that neither touch nor overlap, sorted by line and start."""
    width = int(stops.max()) + 1
    order = np.lexsort((starts, lines))
    begin, end = (lines * width + starts)[order], (lines * width + stops)[order]
    reach = np.maximum.accumulate(end)
    new = np.ones(len(begin), bool)
    new[1:] = begin[1:] > reach[:-1]
    last = np.append(np.flatnonzero(new)[1:], len(begin)) - 1
    return begin[new] // width, begin[new] % width, reach[last] % width


def _vertical_edges(
    lines: Integers, starts: Integers, stops: Integers
) -> tuple[Integers, Integers, Integers, Integers]:
    """x, top y, lower y and side (0 right, 1 left of the area) of each straight vertical piece of the boundary."""
    x, y = np.concatenate((stops, starts)), np.concatenate((lines, lines))
    side = np.repeat(np.array([0, 1]), len(lines))
    order = np.lexsort((y, x, side))
    x, y, side = x[order], y[order], side[order]
    new = np.ones(len(x), bool)
    new[1:] = (side[1:] != side[:-1]) | (x[1:] != x[:-1]) | (y[1:] != y[:-1] + 1)
    last = np.append(np.flatnonzero(new)[1:], len(x)) - 1
    return x[new], y[new], y[last] + 1, side[new]


def _trace(x: Integers, top: Integers, low: Integers, side: Integers) -> tuple[list[list[tuple[int, int]]], list[bool]]:
    """The closed boundaries, none of which touches itself, and which of them are holes.

    Each vertical edge has two ends, 2 i and 2 i + 1. Along a horizontal line the ends, from left to right,
    are the ends of horizontal edges two by two. Where two areas touch at a corner, the right side of the
    one comes before the left side of the other, so that each keeps to itself.
    """
    end_x, end_y = np.repeat(x, 2), np.column_stack((top, low)).ravel()
    order = np.lexsort((np.repeat(side, 2), end_x, end_y))
    across = np.empty(len(order), np.int64)
    across[order[0::2]], across[order[1::2]] = order[1::2], order[0::2]
    same = (end_x[order[1:]] == end_x[order[:-1]]) & (end_y[order[1:]] == end_y[order[:-1]])
    shared = set(order[1:][same].tolist()) | set(order[:-1][same].tolist())
    following = across[np.arange(len(order)) ^ 1].tolist()  # down or up one edge, then across
    points = list(zip(end_x.tolist(), end_y.tolist(), strict=True))
    seen = np.zeros(len(x), bool).tolist()
    rings: list[list[tuple[int, int]]] = []
    is_hole: list[bool] = []
    for first in range(len(x)):
        if seen[first]:
            continue
        is_left = bool(side[first])
        ring: list[tuple[int, int]] = []
        corners: dict[tuple[int, int], int] = {}  # where this boundary may come by again
        end = 2 * first
        while not seen[end >> 1]:
            seen[end >> 1] = True
            for node in (end, end ^ 1):
                point = points[node]
                if node in shared:
                    if point in corners:  # a loop is complete
                        loop = ring[corners[point] :]
                        del ring[corners[point] :]
                        for gone in loop:
                            corners.pop(gone, None)
                        rings.append(loop)
                        is_hole.append((_area(loop) > 0) == is_left)
                    corners[point] = len(ring)
                ring.append(point)
            end = following[end]
        if len(rings) > _MAX_RINGS:
            raise UserError(
                f"more than {_MAX_RINGS} areas and holes are no objects", remedy="remove noise from the mask"
            )
        rings.append(ring)
        is_hole.append((_area(ring) > 0) == is_left)
    return rings, is_hole


def _area(ring: list[tuple[int, int]]) -> float:
    """Signed; positive where it turns from x to y. Its sides are upright or level, so that every second one counts."""
    return sum((y1 - y0) * x for (x, y0), (_, y1) in zip(ring, [*ring[1:], ring[0]], strict=True))
