from __future__ import annotations

import pytest

from preprocess.base.errors import UserError
from tests.preprocess.annotations.conftest import Frame

# The middle of the 1000 x 800 px is 100 um right of and 40 um above that of the glass; a pixel is 0.5 x 0.25 um.
HEADER = {
    "hamamatsu.XOffsetFromSlideCentre": "100000",
    "hamamatsu.YOffsetFromSlideCentre": "-40000",
    "openslide.mpp-x": "0.5",
    "openslide.mpp-y": "0.25",
}
SLIDE = Frame(properties=HEADER)
SQUARE = [(100_000, -40_000), (110_000, -40_000), (110_000, -30_000), (100_000, -30_000)]


def freehand(points, closed=1):
    drawn = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in points)
    return (
        f'<annotation type="freehand" displayname="AnnotateFreehand" color="#000000"><measuretype>0</measuretype>'
        f"<closed>{closed}</closed><pointlist>{drawn}</pointlist></annotation>"
    )


def document(*annotations, title="Glomerulus", unit="nanometers"):
    views = "".join(
        f'<ndpviewstate id="{i}"><title>{title}</title><details/><coordformat>{unit}</coordformat><lens>20</lens>'
        f"<x>1</x><y>2</y>{annotation}</ndpviewstate>"
        for i, annotation in enumerate(annotations, start=1)
    )
    return f'<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n<annotations>{views}</annotations>'


def test_nanometres_from_the_middle_of_the_glass(read, summary):
    circle = '<annotation type="circle" color="#f"><x>50000</x><y>-40000</y><radius>10000</radius></annotation>'
    pointer = '<annotation type="pointer"><x1>1</x1><y1>2</y1><x2>3</x2><y2>4</y2></annotation>'
    found = read(document(freehand(SQUARE), circle, pointer, freehand(SQUARE, closed=0)), SLIDE)
    assert [(label, bounds) for label, bounds, _ in summary(found)] == [
        ("Glomerulus", (500, 400, 520, 440)),
        ("Glomerulus", (380, 360, 420, 440)),
    ]
    assert found.unused == {"open freehand": 1, "pointer": 1}


def test_a_view_without_a_title_and_one_without_a_drawing(read):
    assert [a.label for a in read(document(freehand(SQUARE), title=""), SLIDE)] == ["Unclassified"]
    assert len(read(document(""), SLIDE)) == 0


@pytest.mark.parametrize(
    ("content", "slide", "message"),
    [
        (document(freehand(SQUARE)), None, "nanometres need their slide"),
        (document(freehand(SQUARE)), Frame(), "the slide does not say where that is"),
        (document(freehand(SQUARE), unit="pixels"), SLIDE, "its coordinates are in pixels"),
        (document(freehand([(1, ""), *SQUARE])), SLIDE, "damaged NDPA, item 1"),
        (document('<annotation type="linearmeasure" />'), SLIDE, "of this NDPA is an object: linearmeasure 1"),
    ],
)
def test_bad_files(read, content, slide, message):
    with pytest.raises(UserError, match=message):
        read(content, slide)
