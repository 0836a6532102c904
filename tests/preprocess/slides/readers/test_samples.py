from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.slide import Slide

TILES = ({}, {"tile": (64, 64)})  # tifffile reads strips, OpenSlide recognises tiles


@pytest.fixture(scope="module")
def image():
    noise = np.random.default_rng(0).integers(0, 255, (150, 200, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2).astype(np.uint8)


@pytest.fixture(scope="module")
def alpha(image):
    """Opaque on the left, clear on the right."""
    return np.where(np.arange(image.shape[1]) < 90, 255, 0).astype(np.uint8)[None].repeat(image.shape[0], axis=0)


def read(path):
    with Slide.open(path, 2.0) as slide:
        return slide.read(slide.region, Size(slide.size.width, slide.size.height))


@pytest.mark.parametrize("tile", TILES, ids=["strips", "tiles"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_read_as_stored_whatever_the_orientation_and_it_is_said(tmp_path, image, tile, orientation, capsys):
    path = tmp_path / f"turned {orientation}.tif"
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(path, image, photometric="rgb", compression="lzw", metadata=None, extratags=[tag], **tile)
    np.testing.assert_array_equal(read(path), image)
    assert ("orientation" in capsys.readouterr().err) == (orientation > 1)


def test_the_same_of_a_camera_s_picture(tmp_path, image, capsys):
    exif = PilImage.Exif()
    exif[274] = 6
    PilImage.fromarray(image).save(tmp_path / "camera.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "camera.png"), image)
    assert "camera.png: read as stored: its orientation tag 6 is not followed" in capsys.readouterr().err


@pytest.mark.parametrize("tile", TILES, ids=["strips", "tiles"])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_what_is_transparent_in_a_tiff_is_white(tmp_path, image, alpha, tile, kind):
    cut = image * (alpha[..., None] > 0)
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([cut, alpha]), photometric="rgb", extrasamples=[kind], **tile)
    pixels = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels[:, :90], image[:, :90])
    assert (pixels[:, 90:] == 255).all()


@pytest.mark.parametrize("name", ["a.png", "la.png", "a.webp", "palette.png", "grey.png"])
def test_what_is_transparent_in_a_picture_is_white(tmp_path, image, alpha, name):
    path, grey = tmp_path / name, image[..., 0]
    if name == "palette.png":
        places = np.where(alpha > 0, 1, 0).astype(np.uint8)
        picture = PilImage.fromarray(places, "P")
        picture.putpalette([0, 0, 0, 10, 20, 30])
        picture.save(path, transparency=0)
        expected = np.full_like(image, (10, 20, 30))
    elif name == "grey.png":  # one value of grey that is transparent
        grey = np.where(alpha > 0, np.maximum(grey, 1), 0).astype(np.uint8)
        PilImage.fromarray(grey).save(path, transparency=0)
        expected = grey[..., None].repeat(3, axis=2)
    elif name == "la.png":
        PilImage.fromarray(np.dstack([grey, alpha]), "LA").save(path)
        expected = grey[..., None].repeat(3, axis=2)
    else:
        PilImage.fromarray(np.dstack([image * (alpha[..., None] > 0), alpha])).save(path, lossless=True)
        expected = image
    pixels = read(path)
    np.testing.assert_array_equal(pixels[:, :90], expected[:, :90])
    assert (pixels[:, 90:] == 255).all()


@pytest.mark.parametrize("tile", TILES, ids=["strips", "tiles"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "palette"])
def test_one_sample_a_pixel(tmp_path, image, tile, photometric):
    grey = image[..., 0]
    stored = 255 - grey if photometric == "miniswhite" else grey
    colours = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 7)])
    options = {"colormap": (colours * 257).astype(np.uint16)} if photometric == "palette" else {}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, metadata=None, **options, **tile)
    expected = colours.T[grey] if options else grey[..., None].repeat(3, axis=2)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("tile", TILES, ids=["strips", "tiles"])
@pytest.mark.parametrize(
    ("dtype", "channels", "options", "message"),
    [
        (np.uint16, 3, {"photometric": "rgb"}, "16-bit values"),
        (np.float32, 3, {"photometric": "rgb"}, "32-bit floats"),
        (np.int8, 1, {"photometric": "minisblack"}, "8-bit signed values"),
        (np.uint8, 4, {"photometric": "separated"}, r"inks \(CMYK\)"),
        (np.uint8, 3, {"photometric": "cielab"}, "CIELab"),
        (np.uint8, 4, {"photometric": "rgb", "extrasamples": ["unspecified"]}, "4 samples a pixel"),
        (np.uint8, 4, {"photometric": "minisblack", "planarconfig": "contig"}, "4 samples a pixel"),
    ],
)
def test_what_a_tiff_holds_that_is_no_8_bit_rgb_is_refused(tmp_path, tile, dtype, channels, options, message):
    pixels = np.zeros((150, 200, channels), dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels if channels > 1 else pixels[..., 0], metadata=None, **options, **tile)
    with pytest.raises(UserError, match=rf"a\.tif: a TIFF .*{message}.*\(convert it to 8-bit RGB\)"):
        Slide.open(tmp_path / "a.tif", 2.0)


def test_what_another_format_holds_that_is_no_8_bit_rgb_is_refused(tmp_path, image):
    cv2.imwrite(str(tmp_path / "deep.png"), image.astype(np.uint16) * 16)
    (tmp_path / "dark.ppm").write_bytes(b"P6\n200 150\n15\n" + (image >> 4).tobytes())
    PilImage.fromarray(image).convert("CMYK").save(tmp_path / "inks.jpg")
    PilImage.fromarray(image[..., 0] > 99).save(tmp_path / "bits.png")
    PilImage.fromarray(image).save(
        tmp_path / "film.gif", save_all=True, append_images=[PilImage.fromarray(255 - image)]
    )
    for name, message in (
        ("deep.png", "16-bit values"),
        ("dark.ppm", "largest value is not 255"),
        ("inks.jpg", "inks"),
        ("bits.png", "one bit each"),
        ("film.gif", "2 pictures"),
    ):
        with pytest.raises(UserError, match=rf"{name}: an image .*{message}"):
            Slide.open(tmp_path / name, 2.0)


def test_an_aperio_file_of_16_bits_is_refused_as_well(tmp_path):
    description = "Aperio Image Library v12\r\n200x150 JPEG/RGB Q=90|AppMag = 20|MPP = 0.5"
    pixels = np.zeros((150, 200, 3), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.svs", pixels, photometric="rgb", tile=(64, 64), description=description, metadata=None
    )
    with pytest.raises(UserError, match=r"a\.svs: a TIFF of 16-bit values"):
        Slide.open(tmp_path / "a.svs")


@pytest.mark.parametrize("suffix", ["png", "webp", "jp2", "gif"])
@pytest.mark.parametrize("damage", ["half of it never written", "a byte changed"])
def test_damage_in_a_picture_is_one_line(tmp_path, image, suffix, damage, capfd):
    path = tmp_path / f"a.{suffix}"
    PilImage.fromarray(image).save(path)
    data = bytearray(path.read_bytes())
    if damage == "a byte changed":
        if suffix != "png":
            pytest.skip("the format has no checksums")
        data[len(data) // 2] ^= 0x55
    else:
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"a\.{suffix}: a (PNG|WEBP|JPEG2000|GIF) "):
        Slide.open(path, 2.0)
    assert capfd.readouterr() == ("", "")
