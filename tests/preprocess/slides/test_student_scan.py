from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides.slide import Slide
from preprocess.slides.student_scan import Registration, StudentScan, parse_transform


def wave(x, y):
    return 128 + 60 * np.sin(2 * np.pi * x / 197 + 0.3) + 50 * np.cos(2 * np.pi * y / 231 + x / 300)


TURN = cv2.getRotationMatrix2D((900, 700), 17, 0.4) + np.array([[0, 0, -380], [0, 0, -300]])


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A smooth surface over a slide, seen by a scan that is turned by 17 degrees and 2.5 times coarser."""
    path = tmp_path_factory.mktemp("scan") / "scan.png"
    y, x = np.mgrid[:800, :900] + 0.5
    back = cv2.invertAffineTransform(TURN)
    seen = wave(back[0, 0] * x + back[0, 1] * y + back[0, 2], back[1, 0] * x + back[1, 1] * y + back[1, 2])
    cv2.imwrite(str(path), np.rint(seen).astype(np.uint8))
    with Slide.open(path, 1.0) as slide:
        yield StudentScan(slide, Registration(TURN, "given"))


@pytest.mark.parametrize("scale", [1.3, 2.5, 4, 6.7, 10, 20])
@pytest.mark.parametrize("corner", [(400, 300), (431.3, 377.8)])
def test_a_region_of_the_slide_shows_what_is_there(scan, scale, corner):
    side = int(600 / scale)
    region = Region(*corner, side * scale, side * scale)
    pixels = scan.read(region, Size(side, side))
    x, y = corner[0] + (np.arange(side) + 0.5) * scale, corner[1] + (np.arange(side)[:, None] + 0.5) * scale
    # Half a pixel of the scan (1.25 of the slide) would be 2.4 grey levels, half an output pixel at 20 even 19.
    assert np.abs(pixels[1:-1, 1:-1, 0] - wave(x, y)[1:-1, 1:-1]).max() < (2 if scale < 15 else 8)


def test_white_off_the_scan(scan):
    assert (scan.read(Region(-9000, 0, 100, 100), Size(50, 50)) == 255).all()


def test_where_the_scan_reaches(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 200, 3), np.uint8))
    with Slide.open(tmp_path / "a.png", 4.0) as slide:
        scan = StudentScan(slide, Registration(np.array([[0.5, 0, -10], [0, 0.5, 0]]), "given"))
        whole = Region(0, 0, 1000, 1000)
        assert scan.map([[20, 0], [420, 200]]).tolist() == [[0, 0], [200, 100]]
        assert scan.covers(Region(20, 0, 400, 200), whole)
        assert scan.covers(Region(370, 0, 52, 100), whole)
        assert not scan.covers(Region(370, 0, 53, 100), whole)
        # What sticks out of the slide is white on both.
        assert scan.covers(Region(400, 0, 200, 100), Region(0, 0, 420, 200))
        assert not scan.covers(Region(400, 0, 200, 100), Region(0, 0, 300, 200))


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6), st.sampled_from([" ", ", ", ";", "\t"]))
def test_six_numbers_are_a_transform_unless_they_mirror(values, separator):
    text = separator.join(map(repr, values))
    if values[0] * values[4] - values[1] * values[3] > 0:
        assert parse_transform(text) == tuple(values)
    else:
        with pytest.raises(UserError, match="mirrors or flattens"):
            parse_transform(text)


@pytest.mark.parametrize("text", ["", "1 0 0 0 1", "1 0 0 0 1 nan", "1 0 0 0 1 0 0", "a b c d e f"])
def test_anything_else_is_not(text):
    with pytest.raises(UserError, match="not six numbers"):
        parse_transform(text)
