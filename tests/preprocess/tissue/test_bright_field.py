from __future__ import annotations

import cv2
import numpy as np
import pytest

from preprocess.base.errors import UserError
from preprocess.slides.slide import Slide
from preprocess.tissue.bright_field import is_bright_field
from preprocess.tissue.mask import TissueMask


@pytest.fixture(scope="module")
def signal():
    """Blurred spots between 0 and 1, of little area."""
    spots = np.random.default_rng(0).random((300, 400)) > 0.9995
    blurred = cv2.GaussianBlur(spots.astype(np.float32), (0, 0), 4)
    return (blurred / blurred.max())[..., None]


def fluorescence(signal, rgb, background=0):
    return (background + signal * (np.array(rgb, float) - background)).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("rgb", [(0, 0, 255), (40, 255, 60), (90, 10, 10), (255, 255, 255)])
@pytest.mark.parametrize("background", [0, 5, 12])
def test_fluorescence_is_no_bright_field(signal, rgb, background):
    assert not is_bright_field(fluorescence(signal, rgb, background))


def test_one_flat_colour_on_black_is_no_bright_field(signal):
    assert not is_bright_field(np.where(signal > 0.2, (0, 200, 0), (0, 0, 0)).astype(np.uint8))


def test_stained_tissue_is_and_its_inverse_is_not(slide_image):
    assert is_bright_field(slide_image)
    assert not is_bright_field(255 - slide_image)


@pytest.mark.parametrize("light", [(1, 0.93, 0.7), (1, 0.85, 0.45), (0.75, 0.85, 1), (0.95, 1, 0.93)])
@pytest.mark.parametrize("part", [slice(None), slice(100, 200)])
def test_the_colour_of_the_light_changes_nothing(slide_image, light, part):
    assert is_bright_field((slide_image[part, part] * light).astype(np.uint8))


@pytest.mark.parametrize("black", [0.3, 0.6])
def test_black_fill_and_dark_exposures_change_nothing(slide_image, black):
    filled = slide_image.copy()
    filled[:, : int(black * filled.shape[1])] = 0
    assert is_bright_field(filled)
    assert is_bright_field((slide_image * 0.4).astype(np.uint8))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_empty_picture_says_nothing(value):
    assert is_bright_field(np.full((300, 400, 3), value, np.uint8)) == (value > 0)


def test_a_slide_of_fluorescence_is_one_clear_line(signal, tmp_path):
    cv2.imwrite(str(tmp_path / "dapi.png"), fluorescence(signal, (0, 0, 255), 5)[..., ::-1])
    with Slide.open(tmp_path / "dapi.png", 1.0) as slide, pytest.raises(UserError, match=r"dapi\.png: no bright-field"):
        TissueMask.of(slide)
