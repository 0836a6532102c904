"""Seams: what a perfect detector sees through tiles must come out as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from mhkd.inference.merge import RULES, merge_tiles
from mhkd.inference.predictor import SlidePredictor
from mhkd.structures import SlideDetections
from preprocess.base.geometry import Region
from preprocess.base.grid import grid_tiles
from preprocess.slides.slide import Slide
from tests.blobs import BlobDetector, write_blob_slide
from tests.blobs import boxes_of as blob_boxes
from tests.mhkd.inference.scenes import counts_where, meets_seam, scatter_discs, see_discs

NAMES = ("glomerulus", "other")
SLIDE = Region(0, 0, 900, 700)
TILE = 256.0


def found(*rows, names=NAMES):
    """SlideDetections from rows of x0, y0, x1, y1, score[, label]."""
    table = np.array([(*row, 0)[:6] for row in rows], dtype=float).reshape(-1, 6)
    return SlideDetections(table[:, :4], table[:, 4], table[:, 5], names)


def see(discs, tile, smallest_share=0.02):
    """What a perfect detector finds in one tile: the visible part of each disc (x, y, radius) that is not a sliver."""
    window = shapely.box(tile.x, tile.y, tile.x1, tile.y1)
    rows = []
    for index, (x, y, radius) in enumerate(discs):
        disc = shapely.Point(x, y).buffer(radius, quad_segs=32)
        part = disc & window
        if part.area > smallest_share * disc.area:
            rows.append((*part.bounds, 0.99 - index / 1000 - 0.2 * (1 - part.area / disc.area)))
    return found(*rows)


def through_tiles(discs, tiles, slide=SLIDE, rule="edge"):
    return merge_tiles([see(discs, tile) for tile in tiles], tiles, slide, NAMES, rule=rule)


def boxes_of(discs):
    return np.array([(x - r, y - r, x + r, y + r) for x, y, r in discs]).reshape(-1, 4)


def assert_restored(merged, discs, tolerance=0.5):
    truth = boxes_of(discs)
    assert len(merged) == len(truth)
    for box in truth:
        assert np.abs(merged.boxes_l0 - box).max(axis=1).min() < tolerance


@st.composite
def separated_discs(draw):
    """Discs of one size on a jittered lattice, none nearer to another than 8 px."""
    radius = draw(st.floats(25, 60))
    pitch = 2 * radius + 40
    discs = []
    for row in range(int((SLIDE.height - 2 * radius) // pitch)):
        for column in range(int((SLIDE.width - 2 * radius) // pitch)):
            if draw(st.booleans()):
                shift_x, shift_y = draw(st.floats(-16, 16)), draw(st.floats(-16, 16))
                discs.append((radius + 20 + column * pitch + shift_x, radius + 20 + row * pitch + shift_y, radius))
    return discs


@settings(max_examples=40, deadline=None)
@given(separated_discs(), st.floats(0, 180), st.floats(0, 180), st.floats(0.15, 0.5))
def test_each_object_comes_out_once_and_whole_wherever_the_grid_lies(discs, offset_x, offset_y, overlap):
    region = Region(-offset_x, -offset_y, SLIDE.width + offset_x, SLIDE.height + offset_y)
    tiles = grid_tiles(region, (TILE, TILE), overlap=overlap * TILE)
    assert_restored(through_tiles(discs, tiles), discs)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0, 2 * math.pi),
    st.floats(20, 55),
    st.floats(20, 55),
    st.floats(250, 650),
    st.floats(250, 450),
    st.sampled_from([0.15, 0.25, 0.5]),
)
def test_neighbours_that_touch_stay_two(angle, radius, other_radius, x, y, overlap):
    apart = radius + other_radius
    discs = [(x, y, radius), (x + apart * math.cos(angle), y + apart * math.sin(angle), other_radius)]
    tiles = grid_tiles(SLIDE, (TILE, TILE), overlap=overlap * TILE)
    merged = through_tiles(discs, tiles)
    assert len(merged) == 2
    # A sliver of one disc may be taken for the other where their boxes overlap: within a few per cent of the size.
    assert_restored(merged, discs, tolerance=0.12 * max(radius, other_radius))


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=8, deadline=None)
@given(separated_discs(), st.randoms(use_true_random=False))
def test_the_order_of_tiles_and_detections_changes_nothing(rule, discs, random):
    tiles = grid_tiles(SLIDE, (TILE, TILE), overlap=64)
    parts = [see(discs, tile) for tile in tiles]
    order = random.sample(range(len(tiles)), len(tiles))
    shuffled = [parts[i].select(np.array(random.sample(range(len(parts[i])), len(parts[i])), dtype=int)) for i in order]
    one = merge_tiles(parts, tiles, SLIDE, NAMES, rule=rule)
    other = merge_tiles(shuffled, [tiles[i] for i in order], SLIDE, NAMES, rule=rule)
    np.testing.assert_array_equal(one.boxes_l0, other.boxes_l0)
    np.testing.assert_array_equal(one.scores, other.scores)


LARGE = Region(0, 0, 19_000, 19_000)
CROWD = scatter_discs(2200, LARGE.width, (90, 160), seed=0)


def through_grid(overlap, offset=(0.0, 0.0), side=1024.0, rule="edge"):
    """What is made of CROWD, and the tiles."""
    region = Region(-offset[0], -offset[1], LARGE.width + offset[0], LARGE.height + offset[1])
    tiles = grid_tiles(region, (side, side), overlap=overlap)
    return merge_tiles([see_discs(CROWD, tile) for tile in tiles], tiles, LARGE, ("glomerulus",), rule=rule), tiles


@pytest.mark.parametrize(("overlap", "offset"), [(102, (0, 0)), (256, (511, 130)), (384, (77, 400))])
def test_thousands_of_objects_have_no_seams(overlap, offset):
    merged, tiles = through_grid(overlap, offset)
    true, found = meets_seam(CROWD, tiles, LARGE), meets_seam(merged.boxes_l0, tiles, LARGE)
    assert min(true.sum(), (~true).sum()) > 100
    at_seams, elsewhere = counts_where(CROWD, merged, true, found), counts_where(CROWD, merged, ~true, ~found)
    assert at_seams.f1 >= 0.99
    assert elsewhere.f1 >= 0.99
    # No excess of detections at the seams: as many per object as elsewhere.
    assert found.sum() / true.sum() == pytest.approx((~found).sum() / (~true).sum(), abs=0.01)


def test_no_other_rule_does_better_at_the_seams_and_nms_leaves_pieces_there():
    f1 = {}
    for rule in RULES:
        merged, tiles = through_grid(102, rule=rule)
        seams = (meets_seam(boxes, tiles, LARGE) for boxes in (CROWD, merged.boxes_l0))
        f1[rule] = counts_where(CROWD, merged, *seams).f1
    assert f1["edge"] >= 0.999
    assert f1["nmm"] < 0.995  # SAHI's rule
    assert max(f1[rule] for rule in RULES if rule not in {"edge", "nmm"}) < 0.9


@settings(max_examples=6, deadline=None)
@given(st.floats(0, 900), st.floats(0, 900), st.sampled_from([768.0, 1024.0, 1500.0]), st.floats(0.15, 0.5))
def test_any_grid_gives_the_same_objects(offset_x, offset_y, side, overlap):
    merged, _ = through_grid(overlap * side, (offset_x, offset_y), side)
    whole = np.ones(len(CROWD), dtype=bool)
    counts = counts_where(CROWD, merged, whole, np.ones(len(merged), dtype=bool))
    assert counts.f1 >= 0.999


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blob_slide(tmp_path_factory.mktemp("blobs") / "blobs.svs")


def search(path, **options):
    with Slide.open(path) as slide:
        return SlidePredictor(BlobDetector(), **options).predict(slide)


def test_neither_batch_nor_tile_size_nor_overlap_changes_what_is_found_on_a_slide(blobs):
    one = search(blobs, batch_size=1)
    assert len(one) == len(blob_boxes())
    for options in ({"batch_size": 3}, {"batch_size": 64}):
        other = search(blobs, **options)
        np.testing.assert_array_equal(other.boxes_l0, one.boxes_l0)
        np.testing.assert_array_equal(other.scores, one.scores)
    pixel_l0 = 8  # of the detector
    for options in ({"tile_px": 128}, {"tile_px": 200, "overlap": 0.3}, {"overlap": 0.45}):
        other = search(blobs, **options)
        assert len(other) == len(one)
        for box in blob_boxes():
            assert np.abs(other.boxes_l0 - box).max(axis=1).min() <= 2 * pixel_l0


TWO_TILES = [Region(0, 0, 200, 200), Region(150, 0, 200, 200)]
TWO_TILES_SLIDE = Region(0, 0, 350, 200)


def merge_two(left, right, **options):
    return merge_tiles([left, right], TWO_TILES, TWO_TILES_SLIDE, NAMES, **options)


def test_a_piece_of_an_object_that_another_tile_sees_whole_is_dropped():
    merged = merge_two(found((170, 50, 200, 100, 0.9)), found((170, 50, 230, 100, 0.8)))
    assert merged.boxes_l0.tolist() == [[170, 50, 230, 100]]


def test_plain_nms_keeps_that_piece_which_is_why_it_is_not_the_default():
    assert len(merge_two(found((170, 50, 195, 100, 0.9)), found((170, 50, 230, 100, 0.8)), rule="nms")) == 2


def test_an_object_larger_than_the_overlap_is_put_together_with_its_best_score():
    merged = merge_two(found((100, 50, 200, 150, 0.9)), found((150, 50, 260, 150, 0.7)))
    assert merged.boxes_l0.tolist() == [[100, 50, 260, 150]]
    assert merged.scores.tolist() == [0.9]


def test_a_weak_piece_is_absorbed_but_does_not_widen_the_box():
    merged = merge_two(found((100, 50, 200, 150, 0.9)), found((150, 50, 340, 150, 0.06)))
    assert merged.boxes_l0.tolist() == [[100, 50, 200, 150]]


def test_a_box_at_the_border_of_the_slide_is_no_piece():
    merged = merge_two(found((0, 50, 30, 100, 0.9)), found((320, 50, 350, 100, 0.8)))
    assert merged.boxes_l0.tolist() == [[0, 50, 30, 100], [320, 50, 350, 100]]


def test_classes_are_merged_apart():
    assert len(merge_two(found((170, 50, 200, 100, 0.9, 0)), found((170, 50, 230, 100, 0.8, 1)))) == 2


def test_equal_scores_keep_the_upper_left_box():
    merged = merge_two(found((60, 52, 110, 100, 0.9), (60, 50, 110, 100, 0.9)), found())
    assert merged.boxes_l0.tolist() == [[60, 50, 110, 100]]


def test_nothing_found_is_nothing_merged():
    assert len(merge_tiles([], [], SLIDE, NAMES)) == 0
    assert len(merge_two(found(), found())) == 0


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="unknown merge rule"):
        merge_two(found(), found(), rule="vote")
