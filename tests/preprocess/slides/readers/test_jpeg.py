from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers.jpeg import decode_jpeg
from preprocess.slides.slide import Slide


@pytest.fixture(scope="module")
def image():
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2).astype(np.uint8)


def encode(image, **options):
    stream = io.BytesIO()
    PilImage.fromarray(image).save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def spoilt(data):
    middle = len(data) // 2
    return data[:middle] + bytes(500) + data[middle + 500 :]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_whole_picture_is_read_and_a_damaged_one_is_named(tmp_path, image, progressive):
    data = encode(image, progressive=progressive)
    (tmp_path / "whole.jpg").write_bytes(data)
    with Slide.open(tmp_path / "whole.jpg", 2.0) as slide:
        assert np.abs(slide.read(slide.region, Size(300, 200)).astype(int) - image).mean() < 5
    for name, bad in (("zeros", spoilt(data)), ("short", data[: len(data) // 2]), ("cut", data[:400] + data[900:])):
        (tmp_path / f"{name}.jpg").write_bytes(bad)
        with pytest.raises(UserError, match=rf"{name}\.jpg: pixels not readable: .*damaged or not complete"):
            Slide.open(tmp_path / f"{name}.jpg", 2.0)


@pytest.mark.parametrize("options", [{"rowsperstrip": 64}, {"tile": (64, 64)}])
@pytest.mark.parametrize("colours", ["rgb", "grey"])
def test_a_damaged_tile_of_an_ome_tiff_is_named(tmp_path, image, options, colours):
    pixels, photometric = (image, "rgb") if colours == "rgb" else (image[..., 0], "minisblack")
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels, photometric=photometric, compression="jpeg", **options)
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[1], tiff.pages[0].databytecounts[1]
    with Slide.open(path, 2.0) as slide:
        read = slide.read(slide.region, Size(300, 200)).astype(int)
        assert np.abs(read - (pixels if colours == "rgb" else pixels[..., None])).mean() < 8
    with path.open("r+b") as stream:
        stream.seek(offset + count // 2)
        stream.write(bytes(count // 3))
    with Slide.open(path, 2.0) as slide, pytest.raises(UserError, match=r"a\.ome\.tif: pixels not readable"):
        slide.read(slide.region, Size(300, 200))


@pytest.mark.parametrize("size", [Size(300, 199), Size(16, 16)])
def test_a_picture_of_another_size_is_refused(image, size):
    with pytest.raises(UserError, match="a JPEG of 300 x 200 px"):
        decode_jpeg(encode(image), size=size)
