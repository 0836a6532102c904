from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

from preprocess.base.errors import UserError
from preprocess.base.images import RESULT_MARK, encode_image, encode_thumbnail, is_result, write_image


def test_png_keeps_every_pixel_and_the_order_of_colours(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    write_image(tmp_path / "a.png", rgb)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], rgb)


def test_jpeg_keeps_colour_at_full_resolution():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (200, 40, 120)
    stripes[:, 1::2] = (60, 110, 180)
    data = np.frombuffer(encode_image(stripes, ".jpg"), np.uint8)
    assert np.abs(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(int) - stripes).mean() < 6


def test_jpeg_by_request_with_less_colour_and_fewer_bytes():
    rgb = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encode_image(rgb, ".jpg", quality=80, chroma="420")
    assert len(data) < 0.7 * len(encode_image(rgb, ".jpg", quality=80))
    # The frame header: three components, the first with twice as many samples each way.
    at = data.index(b"\xff\xc0")
    assert data[at + 9] == 3
    assert data[at + 11 : at + 18 : 3] == bytes((0x22, 0x11, 0x11))


@pytest.mark.parametrize("name", ["a.xyz", "a"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="cannot write images as"):
        write_image(tmp_path / name, np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_what_is_written_is_known_as_a_result_wherever_it_is_copied(tmp_path, name):
    rgb = np.full((8, 8, 3), 200, np.uint8)
    write_image(tmp_path / name, rgb)
    assert is_result(tmp_path / name)
    with PilImage.open(tmp_path / name) as image:  # a strict reader takes it too
        image.load()
        assert RESULT_MARK in (image.info.get("Software") or image.info["comment"].decode())
    cv2.imwrite(str(tmp_path / name), rgb)
    assert not is_result(tmp_path / name)


@pytest.mark.parametrize("shape", [(3, 5000, 3), (5000, 3, 3), (1, 1, 3)])
def test_a_preview_of_a_narrow_picture(shape):
    data = np.frombuffer(encode_thumbnail(np.zeros(shape, np.uint8), 200), np.uint8)
    assert min(cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2]) == 1
