from __future__ import annotations

import math

import pytest
import shapely

from preprocess.base.errors import UserError

POLYLINE = {
    "type": "polyline",
    "closed": True,
    "points": [[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]],
    "holes": [[[2, 2, 0], [4, 2, 0], [4, 4, 0], [2, 4, 0]]],
    "group": "Glomerulus",
    "lineColor": "rgb(0, 0, 0)",
}
RECTANGLE = {"type": "rectangle", "center": [50, 50, 0], "width": 40, "height": 20, "rotation": 0}
POINT = {"type": "point", "center": [1, 2, 0]}


def document(*elements, name="Layer"):
    return {"name": name, "description": "", "elements": list(elements)}


@pytest.mark.parametrize(
    "wrap",
    [lambda d: d, lambda d: [d], lambda d: {"_id": "5", "annotation": d}, lambda d: [{"_id": "5", "annotation": d}]],
    ids=["document", "list", "record", "list of records"],
)
def test_every_way_to_hold_elements(read, summary, wrap):
    found = read(wrap(document(POLYLINE, POINT, {**POLYLINE, "closed": False})))
    assert summary(found) == [("Glomerulus", (0, 0, 10, 10), 96)]
    assert found.num_dropped == 2


def test_centred_shapes(read, summary):
    quarter = {**RECTANGLE, "rotation": math.pi / 2}
    ellipse = {**RECTANGLE, "type": "ellipse"}
    circle = {"type": "circle", "center": [50, 50, 0], "radius": 10}
    found = summary(read(document(RECTANGLE, quarter, ellipse, circle)))
    assert [bounds for _, bounds, _ in found] == [
        (30, 40, 70, 60),
        (40, 30, 60, 70),
        (30, 40, 70, 60),
        (40, 40, 60, 60),
    ]
    assert [area for _, _, area in found[:2]] == [800, 800]


def test_rotation_turns_x_towards_y(read):
    (found,) = read(document({**RECTANGLE, "rotation": math.pi / 6}))
    # The middle of the right side, 20 px from the centre, lies below it: y counts downwards.
    x, y = 50 + 20 * math.cos(math.pi / 6), 50 + 20 * math.sin(math.pi / 6)
    assert found.polygon.exterior.distance(shapely.Point(x, y)) < 1e-9


@pytest.mark.parametrize(
    ("element", "label"),
    [
        ({"group": "Glomerulus", "label": {"value": "x"}}, "Glomerulus"),
        ({"group": "default", "label": {"value": "Tuft"}}, "Tuft"),
        ({"label": {"value": ""}}, "Layer"),
        ({}, "Layer"),
    ],
)
def test_the_class_is_the_group_the_label_or_the_name(read, element, label):
    assert [a.label for a in read(document({**RECTANGLE, **element}))] == [label]


def test_elements_of_other_types_and_documents_without_elements_are_said(read):
    found = read([document(RECTANGLE, {"type": "spiral"}, POINT), {"annotation": {"name": "x"}}])
    assert found.unused == {"annotation without elements": 1, "point": 1, "spiral": 1}
    assert len(read(document())) == 0
    for content in (document({"type": "spiral"}), {**document(), "shapes": [RECTANGLE]}):
        with pytest.raises(UserError, match="none of the 1 items"):
            read(content)


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"type": "rectangle", "center": [1, 2]}, "no 'width'"),
        ({**RECTANGLE, "rotation": float("inf")}, "damaged DSA JSON, item 2"),
        ({**RECTANGLE, "width": "x"}, "damaged DSA JSON, item 2"),
        ({**POLYLINE, "points": [[0, 0], [1]]}, "damaged DSA JSON, item 2"),
    ],
)
def test_bad_elements(read, element, message):
    with pytest.raises(UserError, match=message):
        read(document(RECTANGLE, element))


def test_closed_as_text(read):
    points = [[0, 0, 0], [10, 0, 0], [10, 10, 0]]
    lines = [{"type": "polyline", "closed": closed, "points": points} for closed in ("true", "false")]
    found = read(document(*lines))
    assert (len(found), found.unused) == (1, {"open polyline": 1})
