from __future__ import annotations

import io
import math
import zipfile

import numpy as np
import pytest
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from preprocess.base.errors import UserError

SQUARE = np.array([(10, 20), (110, 20), (110, 120), (10, 120)], np.float32)


def polygon(points=SQUARE, name="0070-0060"):
    return ImagejRoi.frompoints(points, name=name)


def bounded(kind):
    roi = ImagejRoi()
    roi.roitype, roi.left, roi.top, roi.right, roi.bottom, roi.name = kind, 200, 20, 300, 60, "Glomerulus-12"
    return roi


def composite():
    """A square with a square hole, as ImageJ stores a combined selection."""
    path = []
    for ring in ([(0, 0), (40, 0), (40, 40), (0, 40)], [(10, 10), (20, 10), (20, 20), (10, 20)]):
        path += [0, *ring[0]]
        for point in ring[1:]:
            path += [1, *point]
        path += [4]
    roi = ImagejRoi()
    roi.roitype, roi.right, roi.bottom = ROI_TYPE.RECT, 40, 40
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    return roi


def roi_set(*rois):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, roi in enumerate(rois):
            archive.writestr(f"{number}.roi", roi.tobytes())
        archive.writestr("readme.txt", "not a region")
    return buffer.getvalue()


def test_one_region(read, summary):
    assert summary(read(polygon().tobytes())) == [("Unclassified", (10, 20, 110, 120), 10_000)]


def test_a_set_of_every_kind_with_an_area(read, summary):
    found = read(
        roi_set(polygon(), bounded(ROI_TYPE.RECT), bounded(ROI_TYPE.OVAL), composite(), bounded(ROI_TYPE.LINE)),
        name="RoiSet.zip",
    )
    ellipse = round(32 * 50 * 20 * math.sin(2 * math.pi / 64), 1)
    assert summary(found) == [
        ("Unclassified", (10, 20, 110, 120), 10_000),
        ("Glomerulus", (200, 20, 300, 60), 4000),
        ("Glomerulus", (200, 20, 300, 60), ellipse),
        ("Unclassified", (0, 0, 40, 40), 1500),
    ]
    assert found.num_dropped == 1


def test_a_set_of_upper_case_names_and_one_beside_other_outlines(read):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("0001.ROI", polygon().tobytes())
        archive.writestr("__MACOSX/._0001.ROI", b"\0\5")
        archive.writestr("a.geojson", "[]")
    found = read(buffer.getvalue())
    assert (len(found), found.unused) == (1, {"other file of the zip": 1})


def test_sub_pixel_rectangles(read, summary):
    roi = bounded(ROI_TYPE.RECT)
    roi.options |= ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    roi.version = 223
    roi.xd, roi.yd, roi.widthd, roi.heightd = 200.25, 20.5, 99.5, 10
    assert summary(read(roi.tobytes()))[0][1] == (200.25, 20.5, 299.75, 30.5)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Glomerulus", "Glomerulus"),
        ("Glomerulus_003", "Glomerulus"),
        ("grade 2 #7", "grade 2"),
        ("0001-0070-0060", "Unclassified"),
        ("17", "Unclassified"),
    ],
)
def test_the_class_is_the_name_without_its_counter(read, name, label):
    assert [a.label for a in read(polygon(name=name).tobytes())] == [label]


@pytest.mark.skipif(not hasattr(ImagejRoi, "properties"), reason="the roifile of Python 3.10 cuts properties short")
def test_qupaths_class_goes_before_the_name(read):
    roi = polygon(name="x")
    roi.properties = {"qupath.object.classification": "Tuft", "qupath.object.type": "annotation"}
    assert [a.label for a in read(roi.tobytes())] == ["Tuft"]


def strange_path():
    """A path with a command that there is not."""
    roi = composite()
    roi.multi_coordinates[3] = 20
    return roi.tobytes()


def text_without_its_lengths():
    return b"Iout" + bytes([0, 223, 1]) + bytes(41) + bytes([0, 1]) + bytes(14) + b"abc"


def bomb():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", b"Iout" + bytes(64 << 20))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (polygon().tobytes()[:40], "damaged ImageJ RoiSet, item 1"),
        (polygon().tobytes()[:70], "damaged ImageJ RoiSet, item 1"),
        (roi_set(polygon())[:-30], "damaged zip"),
        (strange_path(), "damaged ImageJ RoiSet, item 1"),
        (text_without_its_lengths(), "damaged ImageJ RoiSet, item 1"),
        (bomb(), "a.roi has 67108868 bytes"),
        (polygon(SQUARE[:2]).tobytes(), "none of the 1 items"),
        (roi_set(bounded(ROI_TYPE.LINE), bounded(ROI_TYPE.POINT)), "is an object: line 1, point 1"),
    ],
)
def test_bad_files(read, content, message):
    with pytest.raises(UserError, match=message):
        read(content)


def test_a_name_that_a_program_made_up_is_no_class(read):
    names = ["0012-0034", "dcbc86e0-ebbb-11f1-8865-02fc00112233", "glom-3"]
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]])
    found = [read(ImagejRoi.frompoints(square, name=name).tobytes())[0].label for name in names]
    assert found == ["Unclassified", "Unclassified", "glom"]
