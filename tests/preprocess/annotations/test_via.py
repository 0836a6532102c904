from __future__ import annotations

import csv
import io
import json
import math

import pytest

from preprocess.base.errors import UserError

SQUARE = {"name": "polygon", "all_points_x": [0, 10, 10, 0], "all_points_y": [0, 0, 10, 10]}
RECTANGLE = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 5}
CIRCLE = {"name": "circle", "cx": 50, "cy": 60, "r": 10}
ELLIPSE = {"name": "ellipse", "cx": 50, "cy": 60, "rx": 20, "ry": 10, "theta": math.pi / 2}
POINT = {"name": "point", "cx": 1, "cy": 2}
SHAPES = (SQUARE, RECTANGLE, CIRCLE, ELLIPSE, POINT)


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def images(*regions, name="slide.png"):
    return {f"{name}123": {"filename": name, "size": 123, "regions": list(regions), "file_attributes": {}}}


def project(*regions):
    return {"_via_settings": {}, "_via_img_metadata": images(region(SQUARE), name="b.png") | images(*regions)}


def table(*rows):
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    head = ("file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes", "region_attributes")
    writer.writerow(("filename", *head))
    for name, shape, attributes in rows:
        writer.writerow((name, 123, "{}", len(rows), 0, json.dumps(shape), json.dumps(attributes)))
    return buffer.getvalue()


CLASSED = [region(shape, name="Glomerulus") for shape in SHAPES]
FIRST_VERSION = {"slide.png1": {"filename": "slide.png", "regions": dict(enumerate(CLASSED)), "base64_img_data": ""}}


@pytest.mark.parametrize(
    "content",
    [
        project(*CLASSED),
        images(*CLASSED),
        FIRST_VERSION,
        table(("b.png", SQUARE, {}), *(("slide.png", shape, {"name": "Glomerulus"}) for shape in SHAPES)),
        "#" + table(*(("slide.png", shape, {"name": "Glomerulus"}) for shape in SHAPES)),
    ],
    ids=["project", "JSON", "JSON of version 1", "CSV", "CSV of version 1"],
)
def test_shapes_of_the_slides_image(read, frame, summary, content):
    found = read(content, frame)
    sine = math.sin(2 * math.pi / 64)
    assert summary(found) == [
        ("Glomerulus", (0, 0, 10, 10), 100),
        ("Glomerulus", (10, 20, 40, 25), 150),
        ("Glomerulus", (40, 50, 60, 70), round(32 * 100 * sine, 1)),
        ("Glomerulus", (40, 40, 60, 80), round(32 * 200 * sine, 1)),
    ]
    assert found.unused == {"point": 1}


@pytest.mark.parametrize(
    ("attributes", "label"),
    [
        ({"anything": "Tuft "}, "Tuft"),
        ({"note": "x", "Class": "Tuft"}, "Tuft"),
        ({"type": {"Tuft": True, "Tubule": False}}, "Tuft"),
        ({"name": ""}, "Unclassified"),
        ({}, "Unclassified"),
    ],
)
def test_the_class_is_the_attribute(read, attributes, label):
    assert [a.label for a in read(images(region(SQUARE, **attributes)))] == [label]


@pytest.mark.parametrize("empty", [project(), images(), table(("slide.png", {}, {}))], ids=["project", "JSON", "CSV"])
def test_an_image_without_objects(read, frame, empty):
    assert len(read(empty, frame)) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (images(region(SQUARE), name="a.png"), "0 of its 1 images are named 'slide'"),
        (table(("a.png", SQUARE, {})), "0 of its 1 images are named 'slide'"),
        (images(region({"name": "spiral"})), "of this VIA file is an object: spiral 1"),
        (images(region({**SQUARE, "all_points_x": [1]})), "damaged VIA file, item 1"),
        (images({"shape_attributes": {}}), "no 'name'"),
        (table(("slide.png", SQUARE, {})).replace("polygon", '"'), "line 2 has 15 cells"),
        (table() + "slide.png,123,{}", "line 2 has 3 cells"),
    ],
)
def test_bad_files(read, frame, content, message):
    with pytest.raises(UserError, match=message):
        read(content, frame)
