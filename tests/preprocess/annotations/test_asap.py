from __future__ import annotations

import pytest

from preprocess.base.errors import UserError


def annotation(points, kind="Polygon", group="Glomerulus"):
    coordinates = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in points)
    return (
        f'<Annotation Name="Annotation 0" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{coordinates}</Coordinates></Annotation>"
    )


def document(*annotations):
    group = '<Group Name="Glomerulus" PartOfGroup="None" Color="#64FE2E"><Attributes /></Group>'
    return (
        f'<?xml version="1.0"?>\n<ASAP_Annotations>\n<Annotations>{"".join(annotations)}</Annotations>'
        f"<AnnotationGroups>{group}</AnnotationGroups></ASAP_Annotations>"
    )


SQUARE = list(enumerate([(0, 0), (10, 0), (10, 10), (0, 10)]))


def test_groups_are_classes_and_coordinates_are_in_their_order(read, summary):
    shuffled = [SQUARE[i] for i in (2, 0, 3, 1)]
    found = read(
        document(
            annotation(shuffled),
            annotation(SQUARE, kind="Rectangle", group="None"),
            annotation(SQUARE[:1], kind="Dot"),
            annotation([(10, (0, 0)), (9, ("2,5", 0)), (11, (0, 2))], kind="Spline"),
        )
    )
    assert summary(found) == [
        ("Glomerulus", (0, 0, 10, 10), 100),
        ("Unclassified", (0, 0, 10, 10), 100),
        ("Glomerulus", (0, 0, 2.5, 2), 2.5),
    ]
    assert (found.num_dropped, found.num_repaired) == (1, 0)


def test_a_slide_without_objects_and_content_that_nobody_reads(read):
    assert len(read(document())) == 0
    outside = document(annotation(SQUARE)).replace("<Annotations>", "").replace("</Annotations>", "")
    assert read(outside)[0].polygon.area == 100
    with pytest.raises(UserError, match="is an object: unknown element shape 1"):
        read(document('<Shape X="1"/>'))


def test_a_coordinate_without_a_place(read):
    with pytest.raises(UserError, match="damaged ASAP XML, item 1: no 'x'"):
        read(document(annotation(SQUARE)).replace('X="10"', ""))


@pytest.mark.parametrize(
    "points", [[(0, 0), (40, 20)], [(0, 0), (40, 0), (40, 20), (0, 20)], [(20, 0), (40, 10), (20, 20), (0, 10)]]
)
def test_ellipses_by_two_or_four_points(read, points):
    (found,) = read(document(annotation(enumerate(points), "Ellipse")))
    assert found.polygon.bounds == pytest.approx((0, 0, 40, 20))
    assert found.polygon.area == pytest.approx(200 * 3.1416, rel=0.01)


def test_a_rectangle_by_two_corners(read):
    assert read(document(annotation(enumerate([(0, 0), (40, 20)]), "Rectangle")))[0].polygon.area == 800
