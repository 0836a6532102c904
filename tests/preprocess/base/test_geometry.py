from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.base.geometry import Region, Size, area_um2, is_plausible_mpp, px_to_l0, size_at

coordinate = st.floats(-1e5, 1e5)
length = st.floats(0.01, 1e5)
regions = st.builds(Region, coordinate, coordinate, length, length)
sizes = st.builds(Size, st.integers(1, 5000), st.integers(1, 5000))


def test_boxes_to_pixels_by_hand():
    region = Region(100, 200, 400, 200)
    boxes = region.to_px([[100, 200, 500, 400], [200, 250, 300, 300]], Size(100, 100))
    assert boxes.tolist() == [[0, 0, 100, 100], [25, 25, 50, 50]]


def test_no_boxes_stay_no_boxes():
    assert Region(0, 0, 1, 1).to_px([], Size(1, 1)).shape == (0, 4)
    assert Region(0, 0, 1, 1).to_l0([], Size(1, 1)).shape == (0, 4)


@given(regions, sizes, st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=4))
def test_to_px_and_back_is_the_same(region, size, boxes):
    boxes = np.array(boxes).reshape(-1, 4)
    there = region.to_px(boxes, size)
    np.testing.assert_allclose(region.to_l0(there, size), boxes, rtol=1e-9, atol=1e-5)


@given(regions, regions)
def test_intersection_lies_in_both_and_does_not_depend_on_the_order(a, b):
    common = a.intersection(b)
    assert common == b.intersection(a)
    if common is not None:
        for region in (a, b):
            assert common.x >= region.x
            assert common.y >= region.y
            assert common.x1 <= region.x1 + 1e-6
            assert common.y1 <= region.y1 + 1e-6


def test_regions_that_touch_share_nothing():
    assert Region(0, 0, 10, 10).intersection(Region(10, 0, 10, 10)) is None


@pytest.mark.parametrize(
    "build", [lambda: Size(0, 1), lambda: Region(0, 0, 0, 1), lambda: Region(0, 0, 1, float("nan"))]
)
def test_empty_sizes_and_regions_are_refused(build):
    with pytest.raises(ValueError, match="must be positive"):
        build()


def test_units_by_hand():
    assert px_to_l0(1024, mpp=1.0, slide_mpp=0.25) == 4096
    assert size_at(Region(0, 0, 4096, 2048), mpp=4.0, slide_mpp_xy=(0.25, 0.5)) == Size(256, 256)
    assert area_um2(100, 0.5) == 25
    assert [is_plausible_mpp(v) for v in (0.04, 0.05, 64, 65, float("nan"))] == [False, True, True, False, False]
