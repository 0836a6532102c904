from __future__ import annotations

import json

import cv2
import numpy as np
import openslide
import pytest
import shapely

from preprocess.annotations import read_annotations
from preprocess.annotations.origin import check_origin
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides.slide import Slide
from tests.records import FrameOnly
from tests.scn import write_scn

OFFSET = (1600, 800)
OUTLINE = shapely.box(10, 20, 60, 90)


@pytest.fixture(scope="module")
def scn(tmp_path_factory):
    image = np.full((800, 1200, 3), 200, np.uint8)
    path = write_scn(tmp_path_factory.mktemp("scn") / "a.scn", image, size_wh=(4000, 3200), offset_xy=OFFSET)
    with openslide.OpenSlide(path) as slide:  # it is OpenSlide that says where the scanned part lies
        assert slide.properties["openslide.vendor"] == "leica"
        assert slide.properties["openslide.bounds-x"] == "1600"
    with Slide.open(path) as opened:
        yield opened


@pytest.fixture
def outline(tmp_path):
    path = tmp_path / "a.geojson"
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(OUTLINE)}
    path.write_text(json.dumps([feature]))
    return path


def bounds_of(path, slide, origin):
    (annotation,) = read_annotations(path, slide, origin)
    return annotation.polygon.bounds


def test_qupath_counts_from_what_was_scanned_and_others_from_the_slide(scn, outline):
    assert scn.region == Region(1600, 800, 1200, 800)
    assert bounds_of(outline, scn, "bounds") == (1610, 820, 1660, 890)
    assert bounds_of(outline, scn, "slide") == (10, 20, 60, 90)


def test_not_stated_is_refused_where_it_matters_only(scn, svs_slide, outline, tmp_path):
    with pytest.raises(UserError, match=r"a.geojson: .* starts at \(1600, 800\).*bounds \(QuPath\) or slide"):
        read_annotations(outline, scn, None)
    (tmp_path / "empty.json").write_text("[]")
    assert len(read_annotations(tmp_path / "empty.json", scn, None)) == 0
    with Slide.open(svs_slide) as slide:
        for origin in (None, "slide", "bounds"):
            assert bounds_of(outline, slide, origin) == OUTLINE.bounds


def mask_of(folder, wh, box):
    """A mask of ``wh`` px with an object at ``box`` (xyxy)."""
    mask = np.zeros(wh[::-1], np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 255
    cv2.imwrite(str(folder / "mask.png"), mask)
    return folder / "mask.png"


def coco_of(folder, wh, box):
    """COCO of an image of ``wh`` px with an object at ``box`` (xyxy)."""
    bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    content = {
        "images": [{"id": 1, "file_name": "a.scn", "width": wh[0], "height": wh[1]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": bbox}],
        "categories": [{"id": 1, "name": "Glomerulus"}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def labelme_of(folder, wh, box):
    """Labelme's file of an image of ``wh`` px with an object at ``box`` (xyxy)."""
    shape = {"label": "Glomerulus", "shape_type": "rectangle", "points": [box[:2], box[2:]]}
    (folder / "labelme.json").write_text(json.dumps({"imageWidth": wh[0], "imageHeight": wh[1], "shapes": [shape]}))
    return folder / "labelme.json"


@pytest.mark.parametrize("origin", [None, "bounds", "slide"])
@pytest.mark.parametrize("write", [mask_of, coco_of, labelme_of])
@pytest.mark.parametrize(
    ("wh", "box"),
    [
        ((1200, 800), (100, 40, 180, 120)),
        ((300, 200), (25, 10, 45, 30)),
        ((4000, 3200), (1700, 840, 1780, 920)),
        ((1000, 800), (425, 210, 445, 230)),
    ],
    ids=["scanned part", "a quarter of it", "whole slide", "a quarter of that"],
)
def test_the_size_of_an_image_says_what_it_shows(scn, tmp_path, write, wh, box, origin):
    assert bounds_of(write(tmp_path, wh, box), scn, origin) == (1700, 840, 1780, 920)


def test_a_size_that_may_be_both_needs_the_origin(tmp_path):
    slide = FrameOnly(size=Size(4000, 3200), region=Region(1600, 800, 2000, 1600))
    path = mask_of(tmp_path, (1000, 800), (0, 0, 100, 100))
    assert bounds_of(path, slide, "slide") == (0, 0, 400, 400)
    assert bounds_of(path, slide, "bounds") == (1600, 800, 1800, 1000)
    with pytest.raises(UserError, match="not stated where its annotations count from"):
        read_annotations(path, slide)


def test_a_size_that_is_neither_names_both(scn, tmp_path):
    with pytest.raises(UserError, match=r"700 x 800 px, but the slide has 4000 x 3200, of which 1200 x 800 were scann"):
        read_annotations(mask_of(tmp_path, (700, 800), (0, 0, 9, 9)), scn, "bounds")


def test_run_lengths_count_on_what_their_origin_names(scn, tmp_path):
    (tmp_path / "train.csv").write_text("id,encoding\na,801 2\n")  # one column further right in the scanned part
    assert bounds_of(tmp_path / "train.csv", scn, "bounds") == (1601, 800, 1602, 802)
    assert bounds_of(tmp_path / "train.csv", scn, "slide") == (0, 800, 1, 802)


def test_only_the_two_origins_are_known():
    assert [check_origin(one) for one in (None, "Slide", "BOUNDS")] == [None, "slide", "bounds"]
    with pytest.raises(UserError, match="unknown origin 'qupath'"):
        check_origin("qupath")


@pytest.mark.parametrize("origin", [None, "bounds", "slide"])
def test_run_lengths_that_leave_what_was_scanned_are_of_the_whole_slide(scn, tmp_path, origin):
    width, height = scn.size.width, scn.size.height
    (tmp_path / "train.csv").write_text(f"id,encoding\n{scn.name},{width * height - 1} 2\n")
    assert bounds_of(tmp_path / "train.csv", scn, origin) == (width - 1, height - 2, width, height)
