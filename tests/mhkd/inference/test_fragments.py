from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis.extra import numpy as stnp

from mhkd.inference.fragments import TissueFragments
from preprocess.base.geometry import Region
from preprocess.tissue.mask import TissueMask
from tests.records import detections

# 4 x 6 pixels of 100 level-0 px, 50 um, from (1000, 2000) on.
MASK = np.array([[1, 0, 0, 0, 1, 1], [0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1], [0, 0, 1, 0, 0, 0]], bool)
TISSUE = TissueMask(MASK, Region(1000, 2000, 600, 400), 0.5)


def test_pieces_are_numbered_by_their_size_and_corners_connect():
    pieces = TissueFragments.of(TISSUE)
    expected = [[2, 0, 0, 0, 1, 1], [0, 2, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1], [0, 0, 3, 0, 0, 0]]
    np.testing.assert_array_equal(pieces.numbers, expected)
    np.testing.assert_allclose(pieces.areas_mm2, [6 * 0.0025, 2 * 0.0025, 0.0025])


def test_a_detection_lies_in_the_piece_that_fills_most_of_its_box():
    found = detections(
        [(1410, 2010, 1590, 2290), (1050, 2050, 1150, 2150), (1100, 2000, 1500, 2200), (1200, 2000, 1300, 2100)],
        [0.9, 0.8, 0.7, 0.6],
        [0, 0, 1, 1],
    )
    pieces = TissueFragments.of(TISSUE)
    np.testing.assert_array_equal(pieces.containing(found.boxes_l0), [1, 2, 1, 0])
    assert pieces.summary(found) == [
        {"number": 1, "tissue_mm2": 0.015, "detections": 2},
        {"number": 2, "tissue_mm2": 0.005, "detections": 1},
        {"number": 3, "tissue_mm2": 0.0025, "detections": 0},
    ]


def test_boxes_at_and_beyond_the_border_and_none_at_all():
    pieces = TissueFragments.of(TISSUE)
    boxes = np.array([[1000.0, 2000, 1001, 2001], [1599, 2000, 1600, 2001], [0, 0, 1, 1], [5000, 5000, 5001, 5001]])
    np.testing.assert_array_equal(pieces.containing(boxes), [2, 1, 2, 0])
    assert pieces.containing(np.empty((0, 4))).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(mask=stnp.arrays(bool, (7, 9)))
def test_the_areas_add_up_and_never_grow(mask):
    tissue = TissueMask(mask, Region(0, 0, 90, 70), 0.5)
    areas = TissueFragments.of(tissue).areas_mm2
    np.testing.assert_allclose(sum(areas), tissue.area_um2() / 1e6)
    assert list(areas) == sorted(areas, reverse=True)
