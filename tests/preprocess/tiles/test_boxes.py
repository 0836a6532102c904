from __future__ import annotations

from dataclasses import replace

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.annotations import Annotation
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region
from preprocess.tiles.boxes import BoxIndex, BoxRule, remove_duplicates

SQUARE = Annotation(shapely.box(0, 0, 100, 100), "a")
ALL_BOXES = BoxRule(min_visible=0.0)


@pytest.mark.parametrize(
    ("x", "fraction", "ignore"),
    [(0, 1.0, False), (50, 0.5, False), (51, 0.49, True), (90, 0.1, True), (91, None, None)],
)
def test_a_cut_object_is_kept_ignored_or_left_out(x, fraction, ignore):
    boxes = BoxIndex([SQUARE], BoxRule()).boxes(Region(x, -10, 500, 500))
    if fraction is None:
        assert boxes == []
    else:
        assert boxes[0].xyxy == (x, 0, 100, 100)
        assert boxes[0].visible_fraction == pytest.approx(fraction)
        assert boxes[0].ignore is ignore


@pytest.mark.parametrize(
    ("rule", "ignore"),
    [
        (BoxRule(min_visible=0.2), False),
        (BoxRule(min_ignored=0.2), True),
        (BoxRule(min_ignored=0.3), None),
        (BoxRule(min_visible=0.2, min_ignored=0.9), False),
        (BoxRule(min_visible=0.2, min_side_l0=25), False),
        (BoxRule(min_visible=0.2, min_side_l0=25.1), True),
    ],
)
def test_every_part_of_the_rule_can_be_set(rule, ignore):
    # A quarter of the square is visible, 25 px wide.
    boxes = BoxIndex([SQUARE], rule).boxes(Region(75, 0, 500, 500))
    assert [box.ignore for box in boxes] == ([] if ignore is None else [ignore])


@pytest.mark.parametrize("bad", [{"min_visible": 1.1}, {"min_ignored": -0.1}, {"min_side_l0": float("nan")}])
def test_a_rule_that_cannot_be_is_refused(bad):
    with pytest.raises(UserError):
        BoxRule(**bad)


def test_slivers_are_to_be_ignored_even_where_all_of_them_is_visible():
    sliver = Annotation(shapely.box(10, 10, 300, 13.9), "a")
    (box,) = BoxIndex([sliver], BoxRule(min_side_l0=4)).boxes(Region(0, 0, 500, 500))
    assert (box.xyxy, box.visible_fraction, box.ignore) == ((10, 10, 300, 13.9), 1.0, True)


def test_a_region_to_ignore_counts_on_every_tile_that_shows_any_of_it():
    huge = Annotation(shapely.box(0, 0, 100_000, 100_000), "*", ignore=True)
    (box,) = BoxIndex([huge], BoxRule()).boxes(Region(99_990, 500, 20, 20))
    assert (box.xyxy, box.ignore) == ((99_990, 500, 100_000, 520), True)


def test_the_box_bounds_what_is_visible_not_the_clipped_box():
    triangle = Annotation(shapely.Polygon([(0, 0), (100, 0), (0, 100)]), "t")
    (box,) = BoxIndex([triangle], ALL_BOXES).boxes(Region(50, 0, 100, 100))
    assert box.xyxy == (50, 0, 100, 50)
    assert box.visible_fraction == pytest.approx(0.25)


def test_boxes_stay_float():
    (box,) = BoxIndex([Annotation(shapely.box(0.25, 0.5, 10.75, 9.125), "a")], BoxRule()).boxes(Region(0, 0, 50, 50))
    assert box.xyxy == (0.25, 0.5, 10.75, 9.125)


def test_touching_the_border_does_not_widen_the_box():
    # A comb whose second tooth only touches the window's edge.
    comb = Annotation(shapely.Polygon([(0, 0), (10, 0), (10, -5), (20, -5), (20, 0), (30, 0), (30, -9), (0, -9)]), "c")
    dent = Annotation(shapely.Polygon([(0, 0), (0, 20), (10, 20), (10, 10), (20, 10), (20, 0)]), "d")
    assert BoxIndex([comb], ALL_BOXES).boxes(Region(0, 0, 50, 50)) == []
    (box,) = BoxIndex([dent], ALL_BOXES).boxes(Region(0, 10, 50, 50))
    assert box.xyxy == (0, 10, 10, 20)


def test_order_of_the_annotations_is_kept_and_far_ones_are_absent():
    annotations = [Annotation(shapely.box(x, 0, x + 5, 5), str(x)) for x in (30, 10, 900, 20)]
    assert [box.label for box in BoxIndex(annotations, BoxRule()).boxes(Region(0, 0, 100, 100))] == ["30", "10", "20"]
    assert BoxIndex([], BoxRule()).boxes(Region(0, 0, 1, 1)) == []


def rectangle(x0, y0, x1, y1, label="a", ignore=False):
    return Annotation(shapely.box(x0, y0, x1, y1), label, ignore)


CAPSULE = rectangle(0, 0, 100, 100)


@pytest.mark.parametrize(
    ("other", "stays"),
    [
        (CAPSULE, False),  # drawn twice
        (rectangle(10, 10, 90, 90), False),  # the tuft in the capsule: IoU 0.64
        (rectangle(15, 15, 85, 85), True),  # IoU 0.49
        (rectangle(0, 0, 50, 100), False),  # IoU exactly 0.5
        (rectangle(40, 40, 60, 60), True),  # a small structure in a large one
        (rectangle(100, 0, 200, 100), True),  # a neighbour that touches
        (rectangle(10, 10, 90, 90, label="b"), True),  # another class
        (rectangle(10, 10, 90, 90, ignore=True), True),
        (rectangle(-5, -5, 105, 105), None),  # larger: the other goes
    ],
)
def test_two_outlines_of_one_object_are_one(other, stays):
    expected = [other] if stays is None else [CAPSULE, other] if stays else [CAPSULE]
    assert remove_duplicates([CAPSULE, other]) == expected
    assert remove_duplicates([CAPSULE, other], same_iou=1.01) == [CAPSULE, other]


@settings(deadline=None)
@given(
    st.floats(-150, 150), st.floats(-150, 150), st.floats(1, 300), st.floats(0, 1), st.floats(0, 1), st.floats(0, 50)
)
def test_boxes_lie_in_the_tile_and_in_the_object(x, y, side, min_visible, min_ignored, min_side):
    region = Region(x, y, side, side)
    for box in BoxIndex([SQUARE], BoxRule(min_visible, min_ignored, min_side)).boxes(region):
        assert max(x, 0) - 1e-6 <= box.x0 < box.x1 <= min(x + side, 100) + 1e-6
        assert max(y, 0) - 1e-6 <= box.y0 < box.y1 <= min(y + side, 100) + 1e-6
        assert side < 100 or box.visible_fraction >= min(min_visible, min_ignored)
        small = min(box.x1 - box.x0, box.y1 - box.y0) < min_side
        assert box.ignore == (box.visible_fraction < min_visible or small)


corner = st.integers(0, 60)
outlines = st.builds(
    lambda x, y, w, h, label: rectangle(x, y, x + w, y + h, label),
    corner,
    corner,
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from("ab"),
)


@settings(deadline=None)
@given(st.lists(outlines, max_size=12))
def test_no_two_that_stay_are_one_object_and_each_that_goes_is_one_that_stays(annotations):
    kept = remove_duplicates(annotations)
    assert remove_duplicates(kept) == kept

    def same(one, other):
        shared = one.polygon.intersection(other.polygon).area
        return one.label == other.label and shared / (one.polygon.area + other.polygon.area - shared) >= 0.5

    for index, one in enumerate(kept):
        assert not any(same(one, other) for other in kept[index + 1 :])
    for gone in annotations:
        if gone not in kept:
            assert any(same(gone, other) and other.polygon.area >= gone.polygon.area for other in kept)
    assert remove_duplicates([replace(a, ignore=True) for a in annotations]) == [
        replace(a, ignore=True) for a in annotations
    ]
