from __future__ import annotations

import math

import pytest

from preprocess.base.errors import UserError


def region(points, kind="Polygon", negative=0):
    vertices = "".join(f'<V X="{x}" Y="{y}" />' for x, y in points)
    return (
        f'<Region Type="{kind}" HasEndcaps="0" NegativeROA="{negative}">'
        f"<Vertices>{vertices}</Vertices><Comments /></Region>"
    )


def document(**layers):
    body = "".join(
        f'<Annotation LineColor="65535" Name="{name}" Visible="True"><Regions>{"".join(regions)}</Regions></Annotation>'
        for name, regions in layers.items()
    )
    return f"<Annotations>{body}</Annotations>"


SQUARE = [(0, 0), (100, 0), (100, 100), (0, 100)]


def test_layers_shapes_and_holes(read, summary):
    found = read(
        document(
            Glomerulus=[
                region(SQUARE),
                region([(10, 10), (20, 10), (20, 20), (10, 20)], negative=1),
                region([(300, 60), (200, 20)], kind="Rectangle"),
                region([(0, 0), (9, 9)], kind="Ruler"),
            ],
            Tubule=[region([(200, 220), (300, 260)], kind="Ellipse")],
        )
    )
    assert summary(found) == [
        ("Glomerulus", (0, 0, 100, 100), 9900),
        ("Glomerulus", (200, 20, 300, 60), 4000),
        ("Tubule", (200, 220, 300, 260), round(32 * 50 * 20 * math.sin(2 * math.pi / 64), 1)),
    ]
    assert found.num_dropped == 1


@pytest.mark.parametrize("yes", [1, "True", "true"])
def test_a_layer_of_negative_regions_is_no_slide_without_objects(read, yes):
    with pytest.raises(UserError, match="is an object: negative region in no region 1"):
        read(document(Glomerulus=[region(SQUARE, negative=yes)]))


def test_bad_coordinates(read):
    with pytest.raises(UserError, match="damaged HALO annotations, item 2"):
        read(document(a=[region(SQUARE)], b=[region([(1, 2), (3, "inf"), (5, 6)])]))
