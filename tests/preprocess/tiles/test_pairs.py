from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
import tifffile

from preprocess.annotations import Annotation, read_annotations
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide
from preprocess.slides.student_scan import Registration, StudentScan
from preprocess.synthetic.settings import SlideSpec
from preprocess.synthetic.slides import paint_slide
from preprocess.synthetic.svs import write_plain_tiff, write_svs
from preprocess.tiles.pairs import PairSpec, iter_tile_pairs, plan_tiles
from tests.alignment import offset_px
from tests.scn import write_scn

SPEC = PairSpec(teacher_mpp=1, student_mpp=4, tile_px=256, overlap=0.25, keep_empty=1.0)


def test_the_sizes_of_a_pair():
    spec = PairSpec(teacher_mpp=0.5, student_mpp=4, tile_px=1024)
    assert (spec.scale, spec.teacher_size, spec.student_size) == (8, Size(1024, 1024), Size(128, 128))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tile_px": 1022}, "no whole number"),
        ({"student_mpp": 0.5}, "finer than the teacher"),
        ({"teacher_mpp": 0.0}, "no plausible um/px"),
        ({"overlap": 1.0}, "overlap 1 is not between"),
        ({"min_visible": -0.1}, "min_visible"),
        ({"keep_empty": float("nan")}, "keep_empty"),
        ({"tile_px": 0}, "is empty"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        PairSpec(**values)


def test_boxes_are_on_the_objects_in_both_images(svs_slide, geojson):
    with Slide.open(svs_slide) as slide:
        pairs = list(iter_tile_pairs(slide, read_annotations(geojson), SPEC))
    assert sum(len(pair.boxes) for pair in pairs) > 5
    for pair in pairs:
        assert (pair.teacher.shape, pair.student.shape) == ((256, 256, 3), (64, 64, 3))
        for image in (pair.teacher, pair.student):
            size = Size(image.shape[1], image.shape[0])
            inside = np.zeros(image.shape[:2], bool)
            for x0, y0, x1, y1 in pair.region.to_px([box.xyxy for box in pair.boxes], size).round().astype(int):
                inside[y0:y1, x0:x1] = True
                # A disc fills pi/4 of its box; its centre is dark, and cut discs are as dark.
                assert image[y0:y1, x0:x1, 1].mean() < 110
            margin = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            assert image[..., 1][~margin].mean() > 130


def test_only_tissue_and_only_part_of_the_empty_tiles(svs_slide):
    with Slide.open(svs_slide) as slide:
        every = [p.tile_id for p in iter_tile_pairs(slide, [], PairSpec(tile_px=64, keep_empty=1.0, overlap=0))]
        some = [p.tile_id for p in iter_tile_pairs(slide, [], PairSpec(tile_px=64, keep_empty=0.3, overlap=0))]
        again = [p.tile_id for p in iter_tile_pairs(slide, [], PairSpec(tile_px=64, keep_empty=0.3, overlap=0))]
        none = list(iter_tile_pairs(slide, [], PairSpec(tile_px=64, keep_empty=0.0)))
    assert len(every) < 12 * 10
    assert set(some) < set(every)
    assert 0.1 < len(some) / len(every) < 0.5
    assert some == again
    assert none == []


def test_objects_are_kept_on_glass(svs_slide):
    glass = Annotation(shapely.box(1350, 100, 1400, 150), "Glomerulus")
    with Slide.open(svs_slide) as slide:
        pairs = list(iter_tile_pairs(slide, [glass], PairSpec(tile_px=64, min_tissue=1.0, keep_empty=0.0)))
    assert pairs
    assert all(pair.boxes for pair in pairs)


def test_a_slide_smaller_than_a_tile_gets_white_around(svs_slide, geojson):
    with Slide.open(svs_slide) as slide:
        (pair,) = iter_tile_pairs(slide, read_annotations(geojson), PairSpec(tile_px=1024))
    assert pair.tile_id == "discs_0_0"
    assert (pair.teacher[:, 751:] == 255).all()
    assert (pair.student[151:] == 255).all()
    assert len(pair.boxes) == 5


def test_objects_that_no_tile_shows_well_are_counted_and_no_tile_inside_of_one_is_empty(svs_slide):
    cut = Annotation(shapely.box(88, 88, 168, 168), "a")  # across the corner of four tiles
    whole = Annotation(shapely.box(300, 300, 360, 360), "a")
    large = Annotation(shapely.box(512, 512, 1024, 1024), "a")  # of 4 x 4 tiles
    with Slide.open(svs_slide) as slide:
        plan = plan_tiles(slide, [cut, whole, large], PairSpec(tile_px=64, overlap=0))
    assert (plan.num_larger, plan.num_without_box) == (1, 2)
    inside = [tile for tile in plan.tiles if 512 <= tile.region.x < 1024 and 512 <= tile.region.y < 1024]
    assert len(inside) == 16
    assert all(tile.kind == "object" and tile.boxes[0].ignore for tile in inside)


@pytest.fixture(scope="module")
def kidney() -> Image:
    """A demo slide's tissue: uint8 RGB (1200, 1400, 3)."""
    spec = SlideSpec("demo", "P1", "train", seed=3, size_px=(2560, 2048), glomeruli=(4, 5))
    return np.ascontiguousarray(paint_slide(spec).image[400:1600, 500:1900])


FORMATS: dict[str, Callable[[Path, Image], object]] = {
    "svs": lambda path, image: write_svs(path, image, mpp=0.5),
    # Of a size that no level divides, and with a pixel that no mpp divides.
    "odd.svs": lambda path, image: write_svs(path, image[:-3, :-5], mpp=0.499, downsamples=(2, 4, 8)),
    "tiff": write_plain_tiff,
    "scn": lambda path, image: write_scn(path, image, size_wh=(4000, 3200), offset_xy=(1600, 800)),
    "strips.tif": lambda path, image: tifffile.imwrite(path, image, photometric="rgb", rowsperstrip=16),
    "png": lambda path, image: cv2.imwrite(str(path), image[..., ::-1]),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_pairs_are_aligned_to_less_than_half_a_student_pixel(tmp_path, kidney, kind):
    path = tmp_path / f"slide.{kind}"
    FORMATS[kind](path, kidney)
    offsets = []
    with Slide.open(path, fallback_mpp=0.5) as slide:
        for scale, tile_px in ((2, 256), (2.7, 270), (10 / 3, 320), (4, 256), (8, 384)):
            for teacher_mpp in (1.0, 1.37):
                spec = PairSpec(teacher_mpp, scale * teacher_mpp, tile_px, overlap=0.13, keep_empty=1.0)
                pairs = iter_tile_pairs(slide, [], spec)
                offsets += [offset_px(pair.teacher, pair.student) for pair in pairs]
    assert np.isfinite(offsets).sum() > 30
    assert np.nanmax(offsets) < 0.3


def test_only_what_was_scanned_is_cut(tmp_path, kidney):
    path = write_scn(tmp_path / "a.scn", kidney, size_wh=(4000, 3200), offset_xy=(1600, 800))
    outline = [Annotation(shapely.box(1700, 900, 1800, 1000), "Glomerulus")]
    with Slide.open(path) as slide:
        pairs = list(iter_tile_pairs(slide, outline, PairSpec(tile_px=256, min_tissue=0, keep_empty=1.0)))
    assert {(pair.region.x, pair.region.y) for pair in pairs} >= {(1600, 800), (2488, 1488)}
    assert all(1600 <= p.region.x <= p.region.x1 <= 3000 and 800 <= p.region.y1 <= 2000 for p in pairs)
    # The first tile shows the first pixels that were scanned.
    first = kidney[:512, :512].reshape(256, 2, 256, 2, 3).mean((1, 3))
    assert np.abs(pairs[0].teacher - first).mean() < 4
    assert pairs[0].boxes[0].xyxy == (1700, 900, 1800, 1000)


def test_pixels_that_are_not_square_give_square_tiles(tmp_path, kidney):
    # Every second column, so that a pixel is 1 um wide and 0.5 um high.
    wide, path = kidney[:, ::2], tmp_path / "wide.tif"
    tifffile.imwrite(path, wide, photometric="rgb", resolution=(10000, 20000), resolutionunit="CENTIMETER")
    cv2.imwrite(str(tmp_path / "square.png"), kidney[..., ::-1])
    spec = PairSpec(tile_px=128, overlap=0, keep_empty=1.0)
    with Slide.open(path) as slide, Slide.open(tmp_path / "square.png", 0.5) as square:
        assert slide.mpp_xy == (1.0, 0.5)
        pairs, expected = (list(iter_tile_pairs(one, [], spec)) for one in (slide, square))
    assert (pairs[0].region.width, pairs[0].region.height) == (128, 256)
    assert [pair.region.y for pair in pairs] == [pair.region.y for pair in expected]
    assert [pair.region.x * 2 for pair in pairs] == [pair.region.x for pair in expected]
    for pair, same in zip(pairs, expected, strict=True):
        assert pair.tissue == pytest.approx(same.tissue, abs=0.05)
        assert np.abs(pair.student.astype(int) - same.student).mean() < 6
        assert not offset_px(same.student, pair.student) > 0.3


def test_the_student_sees_its_own_scan(svs_slide, tmp_path, slide_image):
    # The same glass at 4 um/px, red where the slide is not, and only its left half.
    half = cv2.resize(slide_image[:, :752], None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    scan_image = cv2.copyMakeBorder(half, 10, 10, 20, 0, cv2.BORDER_CONSTANT, value=(200, 0, 0))
    cv2.imwrite(str(tmp_path / "scan.png"), scan_image[..., ::-1])
    registration = Registration(np.array([[0.125, 0, 20], [0, 0.125, 10]]), "given")
    with Slide.open(svs_slide) as slide, Slide.open(tmp_path / "scan.png", 4.0) as scan_slide:
        scan = StudentScan(scan_slide, registration)
        pairs = list(iter_tile_pairs(slide, [], SPEC, scan=scan))
        plain = {pair.tile_id: pair for pair in iter_tile_pairs(slide, [], SPEC)}
        with pytest.raises(UserError, match="a scan of 4 um/px cannot show the student's 2 um/px"):
            next(iter_tile_pairs(slide, [], PairSpec(student_mpp=2), scan=scan))
    assert 0 < len(pairs) < len(plain)
    assert max(pair.region.x1 for pair in pairs) <= 752 / 0.95
    for pair in pairs:
        np.testing.assert_array_equal(pair.teacher, plain[pair.tile_id].teacher)
        assert np.abs(pair.student[2:-2, 2:-2].astype(int) - plain[pair.tile_id].student[2:-2, 2:-2]).mean() < 4


def test_every_tile_of_the_plan_has_its_fate(svs_slide, geojson):
    spec = PairSpec(tile_px=64, overlap=0, min_tissue=0.5, empty_ratio=0.5)
    with Slide.open(svs_slide) as slide:
        plan = plan_tiles(slide, read_annotations(geojson), spec)
        cut = [pair.tile_id for pair in iter_tile_pairs(slide, read_annotations(geojson), spec, plan)]
    counts = plan.counts()
    # 12 x 10 tiles of 128 level-0 px.
    assert sum(counts.values()) == len(plan.tiles) == 120
    assert counts["empty"] == math.ceil(0.5 * counts["object"])
    assert counts["left out"] > 0
    assert all((tile.tissue < 0.5) == (tile.kind == "glass") for tile in plan.tiles if not tile.boxes)
    assert cut == [tile.tile_id for tile in plan.tiles if tile.kind in ("object", "empty")]


def test_a_slide_without_objects_gives_empty_tiles_and_not_too_many(svs_slide):
    with Slide.open(svs_slide) as slide:
        plan = plan_tiles(slide, [], PairSpec(tile_px=64, overlap=0, empty_ratio=2.0))
        none = plan_tiles(slide, [], PairSpec(tile_px=64, overlap=0, empty_ratio=0.0))
    assert plan.counts()["empty"] == 16
    assert none.counts()["empty"] == 0


def test_an_annotated_glomerulus_is_never_filtered_away(tmp_path):
    """Pale on glass, under ink, in black fill: the mask knows none of them, their tiles are cut all the same."""
    image = np.full((600, 800, 3), 244, np.uint8)
    image[:200, :] = 0
    image[400:, :400] = (20, 130, 60)
    cv2.imwrite(str(tmp_path / "slide.png"), image[..., ::-1])
    places = [(125, 75), (625, 75), (325, 275), (725, 325), (75, 475), (275, 525)]
    objects = [Annotation(shapely.Point(place).buffer(12), "Glomerulus") for place in places]
    with Slide.open(tmp_path / "slide.png", 8.0) as slide:
        spec = PairSpec(teacher_mpp=8, student_mpp=16, tile_px=50, overlap=0, min_tissue=1.0, keep_empty=0.0)
        plan = plan_tiles(slide, objects, spec)
    assert plan.tissue.area_um2() == 0
    assert all(any(tile.region.intersection(_around(place)) for tile in plan.kept) for place in places)
    assert sum(not box.ignore for tile in plan.kept for box in tile.boxes) >= len(places)


def _around(place):
    return Region(place[0] - 12, place[1] - 12, 24, 24)


@pytest.mark.parametrize("ratio", [-1, float("nan"), float("inf")])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(UserError, match="empty_ratio"):
        PairSpec(empty_ratio=ratio)
