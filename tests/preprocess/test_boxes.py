from __future__ import annotations

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from preprocess.annotations import Annotation
from preprocess.boxes import BoxIndex
from preprocess.geometry import Region

SQUARE = Annotation(shapely.box(0, 0, 100, 100), "a")


@pytest.mark.parametrize(
    ("x", "fraction", "ignore"),
    [(0, 1.0, False), (50, 0.5, False), (51, 0.49, True), (90, 0.1, True), (91, None, None)],
)
def test_a_cut_object_is_kept_ignored_or_left_out(x, fraction, ignore):
    boxes = BoxIndex([SQUARE], min_visible=0.5).boxes(Region(x, -10, 500, 500))
    if fraction is None:
        assert boxes == []
    else:
        assert boxes[0].xyxy == (x, 0, 100, 100)
        assert boxes[0].visible_fraction == pytest.approx(fraction)
        assert boxes[0].ignore is ignore


def test_the_box_bounds_what_is_visible_not_the_clipped_box():
    triangle = Annotation(shapely.Polygon([(0, 0), (100, 0), (0, 100)]), "t")
    (box,) = BoxIndex([triangle], 0.0).boxes(Region(50, 0, 100, 100))
    assert box.xyxy == (50, 0, 100, 50)
    assert box.visible_fraction == pytest.approx(0.25)


def test_touching_the_border_does_not_widen_the_box():
    # A comb whose second tooth only touches the window's edge.
    comb = Annotation(shapely.Polygon([(0, 0), (10, 0), (10, -5), (20, -5), (20, 0), (30, 0), (30, -9), (0, -9)]), "c")
    dent = Annotation(shapely.Polygon([(0, 0), (0, 20), (10, 20), (10, 10), (20, 10), (20, 0)]), "d")
    assert BoxIndex([comb], 0.0).boxes(Region(0, 0, 50, 50)) == []
    (box,) = BoxIndex([dent], 0.0).boxes(Region(0, 10, 50, 50))
    assert box.xyxy == (0, 10, 10, 20)


def test_order_of_the_annotations_is_kept_and_far_ones_are_absent():
    annotations = [Annotation(shapely.box(x, 0, x + 5, 5), str(x)) for x in (30, 10, 900, 20)]
    assert [box.label for box in BoxIndex(annotations, 0.5).boxes(Region(0, 0, 100, 100))] == ["30", "10", "20"]
    assert BoxIndex([], 0.5).boxes(Region(0, 0, 1, 1)) == []


@given(st.floats(-150, 150), st.floats(-150, 150), st.floats(1, 300), st.floats(0, 1))
def test_boxes_lie_in_the_tile_and_in_the_object(x, y, side, min_visible):
    region = Region(x, y, side, side)
    for box in BoxIndex([SQUARE], min_visible).boxes(region):
        assert max(x, 0) - 1e-6 <= box.x0 < box.x1 <= min(x + side, 100) + 1e-6
        assert max(y, 0) - 1e-6 <= box.y0 < box.y1 <= min(y + side, 100) + 1e-6
        assert box.ignore == (box.visible_fraction < min_visible)
