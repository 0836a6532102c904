from __future__ import annotations

import json

import pytest

from preprocess.base.errors import UserError


def line(name, *annotations):
    drawn = [{"type": kind, "coordinates": rings} for kind, rings in annotations]
    return json.dumps({"id": name, "annotations": drawn})


SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
FILE = "\n".join(
    [
        line("other", ("glomerulus", [SQUARE])),
        line("slide", ("glomerulus", [SQUARE, HOLE]), ("blood_vessel", [HOLE]), ("unsure", [])),
        "",
    ]
)


def test_the_line_of_the_slide(read, frame, summary):
    found = read(FILE, frame)
    assert summary(found) == [("glomerulus", (0, 0, 10, 10), 96), ("blood_vessel", (2, 2, 4, 4), 4)]
    assert found.num_dropped == 1


def test_a_single_line(read, summary):
    assert summary(read(FILE.splitlines()[0])) == [("glomerulus", (0, 0, 10, 10), 100)]


@pytest.mark.parametrize(
    ("content", "with_slide", "message"),
    [
        (FILE, False, "it is of several images"),
        (FILE.replace("slide", "x"), True, "0 of its 2 images are named 'slide'"),
        (FILE.replace("other", "slide"), True, "2 of its 2 images are named 'slide'"),
        (FILE.replace("coordinates", "places"), True, "damaged HuBMAP JSON lines, item 1: no 'coordinates'"),
        (FILE[:-30], True, "damaged JSON"),
        ('{"id": "slide", "annotations": [], "polygons": [{}]}', True, "is an object: item of polygons 1"),
    ],
)
def test_bad_files(read, frame, content, with_slide, message):
    with pytest.raises(UserError, match=message):
        read(content, frame if with_slide else None)
