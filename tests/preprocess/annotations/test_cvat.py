from __future__ import annotations

import math

import pytest

from preprocess.base.errors import UserError

POLYGON = '<polygon label="Glomerulus" source="manual" occluded="0" points="0.00,0.00;10.00,0.00;10.00,10.00;0,10" />'


def image(*shapes, name="images/slide.png", width=500, height=400):
    return f'<image id="0" name="{name}" width="{width}" height="{height}">{"".join(shapes)}</image>'


def document(*images):
    meta = "<meta><task><labels><label><name>Glomerulus</name></label></labels></task></meta>"
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{meta}{"".join(images)}</annotations>'


def test_shapes_in_the_pixels_of_the_slide(read, frame, summary):
    box = '<box label="Tuft" xtl="10" ytl="20" xbr="30" ybr="30"{} />'
    found = read(
        document(
            image(POLYGON, name="other.png", width=7, height=7),
            image(
                POLYGON,
                box.format(""),
                box.format(' rotation="90.00"'),
                '<ellipse label="Tuft" cx="50" cy="50" rx="20" ry="10" rotation="90" />',
                # Rows of four: pixels 1 and 2 of the first, 0 of the second.
                '<mask label="Tuft" rle="1, 2, 1, 1, 3" left="100" top="200" width="4" height="2" />',
                '<polyline label="Tuft" points="1,1;2,2" />',
                '<points label="Tuft" points="1,1" />',
                '<tag label="good" />',
            ),
        ),
        frame,
    )
    assert summary(found) == [
        ("Glomerulus", (0, 0, 20, 20), 400),
        ("Tuft", (20, 40, 60, 60), 800),
        ("Tuft", (30, 30, 50, 70), 800),
        ("Tuft", (80, 60, 120, 140), round(32 * 40 * 20 * math.sin(2 * math.pi / 64), 1)),
        ("Tuft", (200, 400, 206, 404), 12),
    ]
    assert found.unused == {"points": 1, "polyline": 1}


def test_a_rotation_is_clockwise_on_the_screen(read):
    (found,) = read(document(image('<box label="a" xtl="0" ytl="0" xbr="20" ybr="20" rotation="30" />')))
    # The upper left corner, (-10, -10) from the middle, turned by 30 degrees from x towards y.
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    corner = (10 - 10 * cos + 10 * sin, 10 - 10 * sin - 10 * cos)
    assert min(math.dist(corner, vertex) for vertex in found.polygon.exterior.coords) < 1e-9


def test_an_image_without_objects(read, frame):
    assert len(read(document(image(), image(POLYGON, name="other.png")), frame)) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(image(POLYGON, name="a.png")), "0 of its 1 images are named 'slide'"),
        (document(), "0 of its 0 images"),
        (document(image(POLYGON, width=333)), "made on an image of 333 x 400"),
        (
            document('<track id="0" label="a"><box frame="0" /></track>'),
            "of this CVAT XML is an object: track of a video 1",
        ),
        (document(image('<skeleton label="a" />')), "skeleton 1"),
        (document(image(POLYGON.replace("10.00,0.00;", "10.00;"))), "damaged CVAT XML, item 1"),
        (document(image(POLYGON.replace("0.00,0.00;", "0,5,0,5;"))), "its points are no pairs"),
        (document(image('<box label="a" xtl="0" ytl="0" xbr="20" />')), "no 'ybr'"),
        (
            document(image('<mask label="a" rle="1, 9" left="0" top="0" width="2" height="2" />')),
            "leaves the 2 x 2 px",
        ),
    ],
)
def test_bad_files(read, frame, content, message):
    with pytest.raises(UserError, match=message):
        read(content, frame)
