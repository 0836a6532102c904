from __future__ import annotations

import pytest

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from tests.preprocess.annotations.conftest import Frame


def found(box, name="glomerulus", difficult=0):
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return (
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"
    )


def document(*objects, size=(500, 400)):
    return (
        f"<annotation><folder>f</folder><filename>slide.png</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height><depth>3</depth></size><segmented>0</segmented>{''.join(objects)}</annotation>"
    )


def test_boxes_are_scaled_from_the_reduced_image(read, frame, summary):
    content = document(found((10, 20, 30, 50)), found((0, 0, 5, 5), name="", difficult=1))
    annotations = read(content, frame)
    assert summary(annotations) == [("glomerulus", (20, 40, 60, 100), 2400), ("Unclassified", (0, 0, 10, 10), 100)]
    assert [a.ignore for a in annotations] == [False, True]
    assert summary(read(content))[0] == ("glomerulus", (10, 20, 30, 50), 600)


def test_a_size_that_is_not_stated_is_the_slide(read, frame, summary):
    assert summary(read(document(found((10, 20, 30, 50)), size=(0, 0)), frame))[0][1] == (10, 20, 30, 50)


def test_rotated_boxes(read, summary):
    box = "<robndbox><cx>50</cx><cy>60</cy><w>20</w><h>10</h><angle>1.5707963267948966</angle></robndbox>"
    assert summary(read(document(f"<object><name>a</name>{box}</object>"))) == [("a", (45, 50, 55, 70), 200)]


def test_an_image_without_objects(read):
    assert len(read(document())) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document("<object><name>a</name><polygon><x1>1</x1></polygon></object>"), "object without bndbox 1"),
        (document("<Shape><bndbox><xmin>1</xmin></bndbox></Shape>"), "unknown element shape 1"),
        (document(found((10, 20, 30, 50)), size=(333, 400)), "made on an image of 333 x 400"),
        (document(found((10, 20, 30, ""))), "not a finite number"),
        (document(found((10, 20, 30, 50)), size=("x", 1)), "could not convert"),
        (document(found((10, 20, 10, 50))), "none of the 1 items"),
    ],
)
def test_bad_files(read, content, message):
    with pytest.raises(UserError, match=message):
        read(content, Frame(size=Size(1000, 800)))
