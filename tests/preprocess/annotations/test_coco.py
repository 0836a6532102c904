from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from preprocess.annotations import read_annotations
from preprocess.base.errors import UserError

IMAGES = [
    {"id": 1, "file_name": "train/other.png", "width": 10, "height": 10},
    {"id": 2, "file_name": "train/slide.png", "width": 500, "height": 400},
]
SQUARE = [0, 0, 10, 0, 10, 10, 0, 10]


def drawn(segmentation=None, image=2, **more):
    return {
        "id": 1,
        "image_id": image,
        "category_id": 7,
        **({} if segmentation else {"bbox": [20, 30, 10, 5]}),
        "iscrowd": 0,
        **({} if segmentation is None else {"segmentation": segmentation}),
        **more,
    }


def document(*annotations, images=IMAGES):
    return {
        "images": images,
        "annotations": list(annotations),
        "categories": [{"id": 7, "name": "Glomerulus", "supercategory": ""}],
    }


def rle(height=400, width=500):
    """Rows 3 to 5 of columns 4 and 5, uncompressed."""
    first = 4 * height + 3
    return {"size": [height, width], "counts": [first, 3, height - 3, 3, height * width - first - height - 3]}


def test_polygons_boxes_and_run_lengths_of_the_slides_image(read, frame, summary):
    twice = [SQUARE, [100, 100, 120, 100, 120, 120, 100, 120]]
    compressed = coco_mask.frPyObjects(rle(), 400, 500)
    compressed["counts"] = compressed["counts"].decode()
    found = read(
        document(
            drawn([SQUARE], image=1),
            drawn(twice),
            drawn(),
            drawn([]),
            drawn(rle(), iscrowd=1),
            drawn(compressed),
        ),
        frame,
    )
    box, run = ("Glomerulus", (40, 60, 60, 70), 200), ("Glomerulus", (8, 6, 12, 12), 24)
    assert summary(found) == [
        ("Glomerulus", (0, 0, 240, 240), 2000),
        box,
        box,
        run,
        run,
    ]
    assert [a.ignore for a in found] == [False, False, False, True, False]


def test_a_file_of_one_image_needs_no_slide(read, summary):
    assert summary(read(document(drawn([SQUARE]), images=IMAGES[1:])))[0][1] == (0, 0, 10, 10)


@pytest.mark.parametrize(
    ("image", "category", "changes"),
    [("2", 7, {}), (2, "7", {}), (2.0, 7.0, {}), (2, 7, {"image_id": "2", "category_id": "7", "iscrowd": "0"})],
)
def test_ids_as_text_and_as_numbers_are_the_same(read, frame, summary, image, category, changes):
    content = document(drawn([SQUARE], **changes), images=[{**IMAGES[1], "id": image}])
    content["categories"][0]["id"] = category
    assert summary(read(content, frame)) == [("Glomerulus", (0, 0, 20, 20), 400)]


@pytest.mark.parametrize("name", ["C:\\data\\imgs\\slide.jpg", "..\\slide.png", "/a/b/slide.svs", "slide"])
def test_the_folder_of_an_image_does_not_count(read, frame, name):
    assert len(read(document(drawn([SQUARE]), images=[{**IMAGES[1], "file_name": name}]), frame)) == 1


PAIRS = [[0, 0], [10, 0], [10, 10], [0, 10]]


@pytest.mark.parametrize("segmentation", [SQUARE, [SQUARE], [[SQUARE]], PAIRS, [PAIRS], [[PAIRS]], [SQUARE, []]])
def test_a_polygon_however_deep_it_is_nested(read, frame, segmentation):
    assert [a.polygon.bounds for a in read(document(drawn(segmentation)), frame)] == [(0, 0, 20, 20)]


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[[]]], [[20, 30, 30, 35]], [[1, 1, 2, 2, 1, 1]]])
def test_a_box_beside_a_segmentation_without_area_counts(read, frame, segmentation):
    content = document({**drawn(), "segmentation": segmentation})
    assert [a.polygon.bounds for a in read(content, frame)] == [(40, 60, 60, 70)]


def test_several_polygons_and_parts_of_run_lengths_are_one_object_and_polygons_in_others_are_holes(read, summary):
    far, hole, island = ([v * scale + shift for v in SQUARE] for scale, shift in ((1, 20), (0.6, 2), (0.2, 4)))
    parts = {"size": [400, 500], "counts": [0, 10, 400 * 9 - 10, 10, 400 * 491 - 10]}
    image = [{**IMAGES[1], "width": 500, "height": 400}]
    found = read(document(drawn([hole, SQUARE, far, island, SQUARE]), drawn(parts), images=image))
    assert summary(found) == [
        ("Glomerulus", (0, 0, 30, 30), 100 - 36 + 4 + 100),
        ("Glomerulus", (0, 0, 10, 10), 20),
    ]


def test_annotations_of_no_image_are_said(read, frame):
    found = read(document(drawn([SQUARE]), drawn([SQUARE], image=9), drawn([SQUARE], image=1)), frame)
    assert (len(found), found.unused) == (1, {"annotation of no image of the file": 1})


def test_an_image_without_objects(read, frame):
    assert len(read(document(drawn(image=1)), frame)) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(drawn(), images=IMAGES[:1]), "0 of its 1 images are named 'slide'"),
        (document(drawn(), images=[{**IMAGES[1], "width": 7}]), "made on an image of 7 x 400"),
        (document(drawn(rle(100, 100))), "run lengths for 100 x 100 px"),
        (document(drawn({"size": [400, 500], "counts": [3, 200_000]})), "leaves the 500 x 400 px"),
        (document(drawn({"size": [400, 500], "counts": "\u00ff"})), "damaged run lengths"),
        (document(drawn({"size": [400, 500], "counts": "o" * 40})), "damaged run lengths"),
        (document(drawn([[0, 0, 1]])), "damaged COCO JSON, item 1"),
        (document({"image_id": 2}), "no 'bbox'"),
        (document(drawn(image=9)), "none of the 1 items of this COCO JSON is an object: annotation of no image"),
        (document(drawn(), images=[IMAGES[1], {**IMAGES[0], "id": "2"}]), "several of its images have the id 2"),
        (
            {**document(), "categories": [{"id": 7, "name": "a"}, {"id": "7", "name": "b"}]},
            "several of its categories have the id '7'",
        ),
        (document(drawn(category_id=0)), "category_id 0 is none of its categories, 7"),
        (document(drawn("SQUARE")), "its segmentation is 'SQUARE'"),
        (document(drawn(bbox=[300, 300, 380, 390])), "fits as two corners"),
        ({**document(), "objects": [drawn()]}, "item of objects 1"),
    ],
)
def test_bad_files(read, frame, content, message):
    with pytest.raises(UserError, match=message):
        read(content, frame)


def test_files_of_many_images_need_a_slide(read):
    with pytest.raises(UserError, match="several images"):
        read(document(drawn()))


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_compressed_run_lengths_are_those_of_pycocotools(tmp_path_factory, height, width, random):
    mask = np.asfortranarray([[random.randint(0, 1) for _ in range(width)] for _ in range(height)], np.uint8)
    encoded = coco_mask.encode(mask)
    path = tmp_path_factory.getbasetemp() / "coco.json"
    box = {} if mask.any() else {"bbox": [20, 30, 10, 5]}
    content = document(
        drawn({"size": [height, width], "counts": encoded["counts"].decode()}, image=1, **box),
        images=[{"id": 1, "file_name": "a.png", "width": width, "height": height}],
    )
    path.write_text(json.dumps(content))
    if box:
        assert [a.polygon.bounds for a in read_annotations(path)] == [(20, 30, 30, 35)]
        return
    found = read_annotations(path)
    assert sum(a.polygon.area for a in found) == pytest.approx(mask.sum())
    rows, columns = np.nonzero(mask)
    bounds = np.array([a.polygon.bounds for a in found])
    assert (*bounds[:, :2].min(0), *bounds[:, 2:].max(0)) == (
        columns.min(),
        rows.min(),
        columns.max() + 1,
        rows.max() + 1,
    )


CORNERS = [(10, 10, 30, 30), (50, 30, 70, 50), (90, 70, 110, 90)]


def boxes_of(corners, area=None, as_corners=True):
    for x, y, x1, y1 in corners:
        bbox = [x, y, x1, y1] if as_corners else [x, y, x1 - x, y1 - y]
        yield drawn(bbox=bbox, **({} if area is None else {"area": area}))


@pytest.mark.parametrize(
    "annotations", [boxes_of(CORNERS), boxes_of(CORNERS[:1], 400), boxes_of([*CORNERS, (200, 10, 220, 30)], 400)]
)
def test_boxes_as_two_corners_are_refused_wherever_they_lie(read, frame, annotations):
    with pytest.raises(UserError, match="seem to be two corners"):
        read(document(*annotations), frame)


def test_boxes_at_the_upper_left_are_taken(read, frame):
    near = [(0, 0, 40, 40), (5, 5, 60, 50), (100, 0, 140, 40)]
    for area in (None, 1):
        assert len(read(document(*boxes_of(near, area, as_corners=False)), frame)) == 3
    nested = [(5, 5, 45, 45), (10, 10, 40, 40), (12, 12, 38, 38)]
    assert (
        len(read(document(*(drawn(bbox=[x, y, s - x, s - y], area=(s - x) * (s - y)) for x, y, s, _ in nested)), frame))
        == 3
    )


def test_an_outline_off_its_box_is_refused(read, frame):
    assert len(read(document(drawn([SQUARE], bbox=[0, 0, 10, 10]), drawn([SQUARE], bbox=[5, 5, 10, 10])), frame)) == 2
    with pytest.raises(UserError, match="its segmentation lies off its bbox"):
        read(document(drawn([SQUARE], bbox=[200, 100, 10, 10])), frame)


def test_flags_and_turned_boxes(read, frame, summary):
    flags = [
        {"iscrowd": True},
        {"iscrowd": "true"},
        {"iscrowd": 1.0},
        {"ignore": 1},
        {"iscrowd": "False"},
        {"ignore": 0},
    ]
    found = read(document(*(drawn([SQUARE], **flag) for flag in flags)), frame)
    assert [a.ignore for a in found] == [True] * 4 + [False] * 2
    assert summary(read(document(drawn(attributes={"rotation": 90.0})), frame)) == [
        ("Glomerulus", (45, 55, 55, 75), 200)
    ]


def test_a_category_without_a_name(read, frame):
    content = document(drawn([SQUARE]))
    content["categories"][0]["name"] = None
    assert [a.label for a in read(content, frame)] == ["Unclassified"]
