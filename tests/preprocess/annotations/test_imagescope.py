from __future__ import annotations

import math

import pytest

from preprocess.base.errors import UserError


def region(points, kind=0, negative=0):
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    return (
        f'<Region Id="1" Type="{kind}" Zoom="0.2" Text="" NegativeROA="{negative}" InputRegionId="0" Analyze="1">'
        f"<Attributes/><Vertices>{vertices}</Vertices></Region>"
    )


def layer(*regions, name="", number=1, attribute='<Attribute Name="Description" Id="0" Value=""/>'):
    return (
        f'<Annotation Id="{number}" Name="{name}" ReadOnly="0" Type="4" LineColor="65280" Visible="1">'
        f"<Attributes>{attribute}</Attributes><Regions><RegionAttributeHeaders/>{''.join(regions)}</Regions>"
        "<Plots/></Annotation>"
    )


def document(*layers):
    return f'<Annotations MicronsPerPixel="0.252000">\n{"".join(layers)}\n</Annotations>'


SQUARE = [(10, 20), (110, 20), (110, 120), (10, 120)]
HOLE = [(20, 30), (30, 30), (30, 40), (20, 40)]


def test_shapes_and_holes(read, summary):
    found = read(
        document(
            layer(
                region(SQUARE),
                region(HOLE, negative=1),
                region([(200, 20), (300, 60)], kind=1),
                region([(200, 220), (300, 260)], kind=2),
                region([(0, 0), (50, 50)], kind=4),
                name="Glomeruli",
            )
        )
    )
    assert summary(found) == [
        ("Glomeruli", (10, 20, 110, 120), 9900),
        ("Glomeruli", (200, 20, 300, 60), 4000),
        ("Glomeruli", (200, 220, 300, 260), round(32 * 50 * 20 * math.sin(2 * math.pi / 64), 1)),
    ]
    assert found.num_dropped == 1


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"name": "Glom "}, "Glom"),
        ({"attribute": '<Attribute Name="CaP" Id="0" Value=""/>'}, "CaP"),
        ({"attribute": '<Attribute Name="Description" Id="0" Value="sclerosed"/>'}, "sclerosed"),
        ({"number": 7}, "Layer 7"),
    ],
)
def test_the_class_is_the_layer(read, options, label):
    assert [a.label for a in read(document(layer(region(SQUARE), **options)))] == [label]


def test_a_rectangle_drawn_by_many_vertices_is_a_polygon(read):
    assert read(document(layer(region([(0, 0), (10, 0), (0, 10)], kind=1))))[0].polygon.area == 50


def test_layers_without_regions_are_a_slide_without_objects(read):
    assert len(read(document(layer()))) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(layer(region([("a", 1), (2, 3), (4, 5)]))), "damaged ImageScope XML, item 1: could not convert"),
        (document(layer(region([("nan", 1), (2, 3), (4, 5)]))), "not a finite number"),
        (document(layer(region(SQUARE))).replace('X="10"', ""), "no 'x'"),
        (document(layer(region(SQUARE)))[:-30], "damaged XML"),
        (document(layer(region(SQUARE[:2]))), "none of the 1 items"),
    ],
)
def test_bad_files(read, content, message):
    with pytest.raises(UserError, match=message):
        read(content)
