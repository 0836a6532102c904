from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from preprocess.annotations.outlines import area_of_runs

masks = arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 1))


def runs_of(mask):
    padded = np.pad(mask.astype(np.int64), ((0, 0), (1, 1)))
    (lines, starts), (_, stops) = (np.nonzero(np.diff(padded, axis=1) == step) for step in (1, -1))
    return lines, starts, stops


def picture(*rows):
    return np.array([[cell == "#" for cell in row] for row in rows], np.uint8)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (picture("##", "##"), ["POLYGON ((0 0, 2 0, 2 2, 0 2, 0 0))"]),
        (picture("#.", ".#"), ["POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))", "POLYGON ((1 1, 2 1, 2 2, 1 2, 1 1))"]),
        (picture(".#", "#."), ["POLYGON ((1 0, 2 0, 2 1, 1 1, 1 0))", "POLYGON ((0 1, 1 1, 1 2, 0 2, 0 1))"]),
        (picture("###", "#.#", "###"), ["POLYGON ((0 0, 3 0, 3 3, 0 3, 0 0), (1 1, 1 2, 2 2, 2 1, 1 1))"]),
        # The hole touches the outside at a corner, and is a hole all the same.
        (picture("###", "#.#", "##."), ["POLYGON ((0 0, 3 0, 3 2, 2 2, 2 3, 0 3, 0 0), (1 1, 1 2, 2 2, 2 1, 1 1))"]),
        (picture("."), []),
    ],
)
def test_outlines_by_hand(mask, expected):
    found = area_of_runs(*runs_of(mask))
    assert len(found.geoms) == len(expected)
    for polygon, text in zip(found.geoms, expected, strict=True):
        assert polygon.normalize() == shapely.from_wkt(text).normalize()


@settings(deadline=None)
@given(masks)
@example(picture("#####", "#...#", "#.#.#", "#...#", "#####"))  # an island in a hole
@example(picture("####", "#.##", "##.#", "####"))  # two holes that touch
def test_the_area_is_that_of_the_pixels_and_an_object_is_what_shares_edges(mask):
    lines, starts, stops = runs_of(mask)
    found = area_of_runs(lines, starts, stops)
    assert all(polygon.is_valid for polygon in found.geoms)
    assert found.area == mask.sum()
    assert len(found.geoms) == cv2.connectedComponents(mask, connectivity=4)[0] - 1
    pixels = shapely.union_all(shapely.box(starts, lines, stops, lines + 1))
    assert shapely.equals(shapely.union_all(list(found.geoms)), pixels)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(1, 6)), min_size=1, max_size=20))
def test_runs_may_touch_and_overlap_in_any_order(runs):
    mask = np.zeros((5, 14), np.uint8)
    for line, start, length in runs:
        mask[line, start : start + length] = 1
    lines, starts, lengths = np.array(runs).T
    assert shapely.equals(area_of_runs(lines, starts, starts + lengths), area_of_runs(*runs_of(mask)))


def test_noise_takes_seconds_not_minutes():
    mask = np.random.default_rng(0).integers(0, 2, (400, 400))
    start = time.process_time()
    found = area_of_runs(*runs_of(mask))
    assert found.area == mask.sum()
    assert time.process_time() - start < 5
