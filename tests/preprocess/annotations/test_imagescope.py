from __future__ import annotations

import math

import pytest

from preprocess.base.errors import UserError
from tests.preprocess.annotations.conftest import Frame


def region(points, kind=0, negative=0, text="", attribute=""):
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    return (
        f'<Region Id="1" Type="{kind}" Zoom="0.2" Text="{text}" NegativeROA="{negative}" InputRegionId="0" Analyze="1">'
        f"<Attributes>{attribute}</Attributes><Vertices>{vertices}</Vertices></Region>"
    )


def layer(*regions, name="", number=1, attribute='<Attribute Name="Description" Id="0" Value=""/>'):
    return (
        f'<Annotation Id="{number}" Name="{name}" ReadOnly="0" Type="4" LineColor="65280" Visible="1">'
        f"<Attributes>{attribute}</Attributes><Regions><RegionAttributeHeaders/>{''.join(regions)}</Regions>"
        "<Plots/></Annotation>"
    )


def document(*layers, mpp="0.252000"):
    return f'<Annotations MicronsPerPixel="{mpp}">\n{"".join(layers)}\n</Annotations>'


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


@pytest.mark.parametrize(
    ("drawn", "named", "label"),
    [
        ({"text": "sclerotic"}, {}, "sclerotic"),
        ({"text": "look again"}, {"name": "Glom"}, "Glom"),
        ({"attribute": '<Attribute Name="sclerotic" Id="1" Value=""/>'}, {}, "sclerotic"),
        ({"attribute": '<Attribute Name="Class" Id="1" Value="sclerotic"/>'}, {}, "sclerotic"),
        ({"attribute": '<Attribute Name="1" Id="1" Value="sclerotic"/>'}, {}, "sclerotic"),
        (
            {"attribute": '<Attribute Name="Description" Value=""/><Attribute Name="Class" Value="normal"/>'},
            {"attribute": '<Attribute Name="all" Id="0" Value=""/>'},
            "normal",
        ),
    ],
)
def test_the_class_of_a_region_in_a_layer_without_a_name(read, drawn, named, label):
    assert [a.label for a in read(document(layer(region(SQUARE, **drawn), **named)))] == [label]


def test_a_decimal_comma(read):
    assert read(document(layer(region([("10,5", 0), (20, 0), (20, "10,25")]))))[0].polygon.bounds == (
        10.5,
        0,
        20,
        10.25,
    )


@pytest.mark.parametrize("yes", ["1", "true", "True", " TRUE "])
def test_negative_regions(read, yes):
    (found,) = read(document(layer(region(SQUARE), region(HOLE, negative=yes))))
    assert found.polygon.area == 9900
    with pytest.raises(UserError, match="is an object: negative region in no region 1"):
        read(document(layer(region(SQUARE, negative=yes))))
    beside = read(document(layer(region(SQUARE)), layer(region(HOLE, negative=yes))))
    assert beside.unused == {"negative region in no region": 1}


@pytest.mark.parametrize(
    ("stated", "slide", "fits"),
    [
        ("0.252000", Frame(), True),
        ("0.500000", Frame(), False),
        ("0,125", Frame(), False),
        ("0", Frame(), True),
        ("0.5", Frame(mpp_xy=(0.5, 0.5)), True),
        ("0.5", Frame(properties={"openslide.mpp-x": "0.499"}), True),
        ("0.5", None, True),
    ],
)
def test_the_um_per_pixel_must_be_the_slides_or_its_headers(read, stated, slide, fits):
    content = document(layer(region(SQUARE)), mpp=stated)
    if fits:
        assert read(content, slide)[0].polygon.area == 10_000
    else:
        with pytest.raises(UserError, match=r'but the slide has 0.25 um/px .*MicronsPerPixel="0.25" in the file'):
            read(content, slide)


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
        (document(layer(region(SQUARE, negative="x"))), "NegativeROA is 'x'"),
        (document(layer(region(SQUARE, kind=4), region(SQUARE, kind=3))), "an object: arrow 1, ruler 1"),
        ('<Annotations><Annotation Name="a" X="1" Y="2" Width="3"/></Annotations>', "annotation without regions 1"),
        (document(region(SQUARE), layer()), "region in no layer 1"),
        (document(layer()).replace("<Plots/>", '<Polygon Points="1,1 2,2 3,1"/>'), "unknown element polygon 1"),
        ("<Annotations><SlideAnnotation><Polygon/></SlideAnnotation></Annotations>", "unknown annotation format"),
    ],
)
def test_bad_files(read, content, message):
    with pytest.raises(UserError, match=message):
        read(content)


@pytest.mark.parametrize("name", ["Layer 1", "layer 12", " Layer "])
def test_the_name_that_imagescope_gives_a_layer_is_no_class(read, name):
    regions = region(SQUARE, text="normal"), region([(x + 50, y) for x, y in SQUARE], text="sclerotic")
    assert [a.label for a in read(document(layer(*regions, name=name)))] == ["normal", "sclerotic"]


def test_coordinates_as_text_are_no_slide_without_objects(read):
    other = '<Annotations><Annotation Name="G"><Regions/><Outline>1,2 30,4 50,60.5</Outline></Annotation></Annotations>'
    with pytest.raises(UserError, match="unknown element outline 1"):
        read(other)
    assert len(read(other.replace("1,2 30,4 50,60.5", "drawn on 2020-01-02"))) == 0
