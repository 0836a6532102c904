from __future__ import annotations

import numpy as np
import pytest

from preprocess.base.geometry import Size
from preprocess.slides.readers.reader import on_white, read_inside, true_downsample


def test_transparent_pixels_become_white():
    rgba = np.array([[[10, 20, 30, 255], [0, 0, 0, 0], [100, 100, 100, 51]]], np.uint8)
    assert on_white(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [224, 224, 224]]]


@pytest.mark.parametrize(
    ("slide", "level", "factor"),
    [
        ((1031, 1027), (257, 256), 4.0),  # the last, incomplete blocks are cropped
        ((1031, 1027), (258, 257), 4.0),  # or padded
        ((1000, 1000), (300, 300), 10 / 3),
        ((1000, 1000), (1000, 1000), 1.0),
    ],
)
def test_the_factor_of_a_level(slide, level, factor):
    assert true_downsample(Size(*slide), Size(*level)) == pytest.approx(factor)


def test_what_lies_outside_a_level_is_white():
    level = np.arange(12, dtype=np.uint8).reshape(3, 4, 1).repeat(3, axis=2)

    def read(x, y, part):
        return level[y : y + part.height, x : x + part.width]

    image = read_inside(read, Size(4, 3), -1, 1, Size(3, 3))
    assert image[..., 0].tolist() == [[255, 4, 5], [255, 8, 9], [255, 255, 255]]
    assert (read_inside(read, Size(4, 3), 4, 0, Size(2, 2)) == 255).all()
