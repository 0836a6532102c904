from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from preprocess.base.geometry import Size
from preprocess.slides.readers.reader import level_factors, on_white, read_inside


def test_transparent_pixels_become_white():
    rgba = np.array([[[10, 20, 30, 255], [0, 0, 0, 0], [100, 100, 100, 51]]], np.uint8)
    assert on_white(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [224, 224, 224]]]


@pytest.mark.parametrize(
    ("slide", "level", "factor"),
    [
        ((1031, 1027), (257, 256), (4, 4)),  # the last, incomplete blocks are cropped
        ((1031, 1027), (258, 257), (4, 4)),  # or padded
        ((1000, 1000), (300, 300), (10 / 3, 10 / 3)),
        ((1000, 1000), (1000, 1000), (1, 1)),
        ((60_000, 671), (468, 5), (128, 128)),  # the short side, of a few pixels, says little
        ((671, 60_000), (5, 468), (128, 128)),
        ((100_000, 71), (48, 1), (2048, 2048)),
        ((19_683, 900), (729, 33), (27, 27)),
        ((1000, 600), (250, 300), (4, 2)),  # resized, each side by itself
        ((1000, 71), (301, 20), (1000 / 301, 71 / 20)),
    ],
)
def test_the_factor_of_a_level(slide, level, factor):
    assert level_factors(Size(*slide), Size(*level)) == pytest.approx(factor)


def test_what_lies_outside_a_level_is_white():
    level = np.arange(12, dtype=np.uint8).reshape(3, 4, 1).repeat(3, axis=2)

    def read(x, y, part):
        return level[y : y + part.height, x : x + part.width]

    image = read_inside(read, Size(4, 3), -1, 1, Size(3, 3))
    assert image[..., 0].tolist() == [[255, 4, 5], [255, 8, 9], [255, 255, 255]]
    assert (read_inside(read, Size(4, 3), 4, 0, Size(2, 2)) == 255).all()


@given(st.integers(1, 200_000), st.integers(1, 200_000), st.sampled_from([2, 4]), st.integers(1, 6), st.booleans())
def test_a_place_is_found_on_any_level_to_less_than_half_of_its_pixels(width, height, step, num, up):
    wh = [width, height]
    for _ in range(num):
        wh = [max(1, -(-side // step) if up else side // step) for side in wh]
    true, found = step**num, level_factors(Size(width, height), Size(*wh))
    assume(max(width, height) >= 8 * true)  # of levels of a few pixels nobody can say it
    assert max(abs(side / factor - side / true) for side, factor in zip((width, height), found, strict=True)) < 0.5
