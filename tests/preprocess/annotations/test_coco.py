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
        "bbox": [20, 30, 10, 5],
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
    content = document(
        drawn({"size": [height, width], "counts": encoded["counts"].decode()}, image=1),
        images=[{"id": 1, "file_name": "a.png", "width": width, "height": height}],
    )
    path.write_text(json.dumps(content))
    if not mask.any():
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
