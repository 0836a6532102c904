from __future__ import annotations

import base64
import math

import cv2
import numpy as np
import pytest

from preprocess.base.errors import UserError


def shape(points, kind="polygon", label="Glomerulus", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def document(*shapes, width=500, height=400):
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "slide.png",
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10]]


def png(mask):
    return base64.b64encode(cv2.imencode(".png", mask)[1]).decode()


def test_shapes_in_the_pixels_of_the_slide(read, frame, summary):
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 1
    found = read(
        document(
            shape(SQUARE),
            shape([[30, 50], [10, 20]], "rectangle"),
            shape([[50, 50], [53, 54]], "circle", label="Tuft"),
            shape([[100, 200], [105, 203]], "mask", mask=png(mask * 255)),
            shape([[1, 2]], "point"),
        ),
        frame,
    )
    assert summary(found) == [
        ("Glomerulus", (0, 0, 20, 20), 400),
        ("Glomerulus", (20, 40, 60, 100), 2400),
        ("Tuft", (90, 90, 110, 110), round(32 * 100 * math.sin(2 * math.pi / 64), 1)),
        ("Glomerulus", (204, 402, 210, 406), 24),
    ]
    assert found.num_dropped == 1


def test_what_x_anylabeling_adds(read, summary):
    turned = [[10, 0], [20, 10], [10, 20], [0, 10]]
    found = read(
        document(
            shape(turned, "rotation", direction=0.785),
            shape([[0, 0], [20, 0], [20, 10], [0, 10]], "rectangle", difficult=True),
            shape([[20, 40], [60, 60]], "ellipse"),
            shape([[60, 20], [60, 60], [40, 60], [40, 20]], "ellipse"),
            shape([[1, 1], [2, 2]], "line"),
        )
    )
    ellipse = round(32 * 20 * 10 * math.sin(2 * math.pi / 64), 1)
    assert summary(found) == [
        ("Glomerulus", (0, 0, 20, 20), 200),
        ("Glomerulus", (0, 0, 20, 10), 200),
        ("Glomerulus", (20, 40, 60, 60), ellipse),
        ("Glomerulus", (40, 20, 60, 60), ellipse),
    ]
    assert [a.ignore for a in found] == [False, True, False, False]
    assert found.unused == {"line": 1}


def test_parts_of_a_mask_are_one_object(read, summary):
    mask = np.zeros((4, 9), np.uint8)
    mask[:2, :2] = mask[2:, 7:] = 255
    found = read(document(shape([[10, 20], [19, 24]], "mask", mask=png(mask))))
    assert summary(found) == [("Glomerulus", (10, 20, 19, 24), 8)]


def test_an_image_without_objects(read):
    assert len(read(document())) == 0
    with pytest.raises(UserError, match="item of polygons 1"):
        read({**document(), "polygons": [shape(SQUARE)]})


def test_a_file_that_states_no_size(read, frame, summary):
    assert summary(read(document(shape(SQUARE), width=None, height=None), frame))[0][1] == (0, 0, 10, 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(shape(SQUARE), width=333), "made on an image of 333 x 400"),
        (document(shape(SQUARE), width=float("inf")), "damaged Labelme JSON, item 1"),
        (document(shape(SQUARE), width=-3), "must be positive"),
        (document(shape(SQUARE, "spiral"), shape([[1, 2]], "point")), "is an object: point 1, spiral 1"),
        (document(shape([[0, 0], [3, 4]], "mask", mask="AAAA")), "its mask is no image"),
        (
            document(shape([[float("nan"), 0], [3, 4]], "mask", mask=png(np.ones((2, 2), np.uint8)))),
            "not a finite number",
        ),
        (document(shape([[0, 0], [3, 4], [1, 1]], "circle")), "damaged Labelme JSON, item 1"),
        (document(shape([[0, 0], [float("nan"), 4], [1, 1]])), "not a finite number"),
    ],
)
def test_bad_files(read, frame, content, message):
    with pytest.raises(UserError, match=message):
        read(content, frame)


def test_shapes_of_one_group_and_label_are_one_object(read, summary):
    far = [[x + 50, y] for x, y in SQUARE]
    parts = [shape(SQUARE, group_id=1), shape(SQUARE, label="Tuft", group_id=1), shape(far, group_id=1), shape(far)]
    assert summary(read(document(*parts))) == [
        ("Glomerulus", (0, 0, 60, 10), 200),
        ("Tuft", (0, 0, 10, 10), 100),
        ("Glomerulus", (50, 0, 60, 10), 100),
    ]


@pytest.mark.parametrize(
    ("flag", "ignored"), [("true", True), (1, True), ("false", False), ("False", False), (None, False)]
)
def test_difficult_as_text(read, flag, ignored):
    assert [a.ignore for a in read(document(shape(SQUARE, difficult=flag)))] == [ignored]
