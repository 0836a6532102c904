from __future__ import annotations

import math
import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Polygon

from preprocess.annotations.annotation import (
    Drawing,
    box_of,
    collect,
    ellipse_of,
    is_named,
    polygon_of,
    scale_to,
    with_holes,
)
from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from tests.preprocess.annotations.conftest import Frame

BOW_TIE = Polygon([(0, 0), (10, 10), (10, 0), (0, 6)])


def test_counts_of_what_was_mended_and_left_out():
    parts = MultiPolygon([shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 10), shapely.box(50, 0, 50.5, 0.5)])
    found = collect([Drawing(BOW_TIE, "a"), Drawing(Polygon(), "b"), Drawing(parts, "c", ignore=True)])
    assert [(a.label, a.ignore) for a in found] == [("a", False), ("c", True), ("c", True)]
    assert (found.num_repaired, found.num_dropped) == (1, 2)
    assert found[0].polygon.is_valid
    assert found[1:] == found.objects[1:]


def test_an_outline_that_loops_keeps_what_it_encloses_and_a_hole_that_sticks_out_adds_nothing():
    loop = Polygon([(0, 0), (10, 0), (10, 10), (0, 10), (0, 3), (7, 3), (7, 7), (3, 7), (3, 0)])
    holed = Polygon(shapely.box(0, 0, 10, 10).exterior, [shapely.box(8, 8, 12, 9).exterior])
    found = collect([Drawing(loop), Drawing(holed)])
    assert [a.polygon.area for a in found] == [91, 98]
    assert found.num_repaired == 2


def test_scribbles_are_mended_or_dropped_in_seconds():
    points = np.random.default_rng(0).random((20_000, 2)) * 1000
    start = time.process_time()
    found = collect([Drawing(Polygon(points[:200])), Drawing(Polygon(points))])
    assert (len(found), found.num_repaired, found.num_dropped) == (1, 1, 1)
    assert time.process_time() - start < 5


def test_ellipses_reach_their_extremes():
    ellipse = ellipse_of(100, 50, 40, 20)
    assert ellipse.bounds == pytest.approx((60, 30, 140, 70))
    assert ellipse.area == pytest.approx(math.pi * 40 * 20, rel=2e-3)


def test_a_box_from_any_two_corners():
    assert box_of(5, 1, 2, 4).bounds == (2, 1, 5, 4)
    assert box_of(5, 1, 5, 4).is_empty


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2e8, "x", None])
def test_coordinates_that_cannot_be_are_refused(bad):
    with pytest.raises((ValueError, TypeError)):
        polygon_of([(0, 0), (1, bad), (1, 1)])


def test_holes_are_cut_from_the_outline_that_contains_them():
    hole, bow_tie = shapely.box(2, 2, 4, 4), Polygon([(5, 5), (8, 8), (8, 5), (5, 7)])
    outlines = [Drawing(shapely.box(0, 0, 10, 10), "a"), Drawing(shapely.box(20, 0, 30, 10), "b")]
    found = collect(with_holes(outlines, [hole, bow_tie, shapely.box(50, 50, 60, 60)]))
    assert [(a.label, a.polygon.area) for a in found] == [("a", pytest.approx(96 - 1.2 - 2.7)), ("b", 100)]
    assert found.unused == {"negative region in no region": 1}
    around = [Drawing(shapely.box(-5, -5, 40, 40)), *outlines, Drawing(BOW_TIE)]
    assert [d.geometry.area for d in with_holes(around, [hole] * 2)] == [2025, 96, 100, BOW_TIE.area]


def test_thousands_of_outlines_and_holes_take_no_time_and_no_memory():
    outlines, holes = [Drawing(shapely.box(0, 0, 10, 10))] * 5000, [shapely.box(2, 2, 4, 4)] * 5000
    start = time.perf_counter()
    assert sum(len(d.geometry.interiors) for d in with_holes(outlines, holes)) == 1
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("image", "factor"),
    [((1000, 800), 1), ((500, 400), 2), ((250, 200), 4), ((62, 50), 16), ((63, 50), 16), ((333, 266), 3)],
)
def test_images_reduced_by_a_whole_factor_fit(image, factor):
    assert scale_to(Frame(), Size(*image)) == factor
    assert scale_to(None, Size(*image)) == 1


@pytest.mark.parametrize("image", [(800, 1000), (667, 533), (999, 700), (2000, 1600), (1, 1)])
def test_images_of_another_shape_do_not_fit(image):
    with pytest.raises(UserError, match="but the slide has 1000 x 800"):
        scale_to(Frame(), Size(*image))


def test_names_with_folders_suffixes_and_dots():
    frame = Frame("TCGA-1.abc")
    assert all(
        is_named(frame, name)
        for name in ("TCGA-1.abc", "TCGA-1.abc.svs", "images/TCGA-1.abc.png", "C:\\a\\TCGA-1.abc.png")
    )
    assert not any(is_named(frame, name) for name in ("TCGA-1", "TCGA-1.abd.svs", ""))
    assert not is_named(Frame("slide"), "")


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), max_size=12), st.floats(0, 10))
def test_whatever_is_drawn_the_annotations_are_valid_and_have_an_area(points, scale):
    drawn = polygon_of([(x * scale, y * scale) for x, y in points])
    found = collect([Drawing(drawn)])
    assert len(found) + found.num_dropped == 1
    for annotation in found:
        assert annotation.polygon.is_valid
        assert annotation.polygon.area >= 1e-6
        x0, y0, x1, y1 = np.subtract(annotation.polygon.bounds, drawn.bounds).tolist()
        assert min(x0, y0, -x1, -y1) >= -1e-6  # nothing beyond what was drawn
