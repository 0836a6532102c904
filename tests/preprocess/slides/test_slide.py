from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.base.errors import UserError
from preprocess.base.files import safe_name
from preprocess.base.geometry import Region, Size
from preprocess.slides.slide import Slide
from preprocess.synthetic.svs import write_plain_tiff, write_svs


@pytest.fixture(scope="module")
def small_image():
    return np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)


def wave(x, y):
    return 128 + 60 * np.sin(2 * np.pi * x / 197 + 0.3) + 50 * np.cos(2 * np.pi * y / 231 + x / 300)


WAVE_WH = (2007, 1611)


@pytest.fixture(scope="module")
def wave_slides(tmp_path_factory):
    """A smooth surface as a pyramid, whose odd size makes OpenSlide state fractional levels, and as a plain image."""
    folder = tmp_path_factory.mktemp("wave")
    y, x = np.mgrid[: WAVE_WH[1], : WAVE_WH[0]] + 0.5
    image = np.repeat(np.rint(wave(x, y)).astype(np.uint8)[..., None], 3, axis=2)
    cv2.imwrite(str(folder / "wave.png"), image)
    slides = [Slide.open(write_svs(folder / "wave.svs", image, quality=95), 0.5), Slide.open(folder / "wave.png", 0.5)]
    yield slides
    for slide in slides:
        slide.close()


@pytest.mark.parametrize("write", [lambda p, i: write_svs(p, i, mpp=None, objective_power=None), write_plain_tiff])
def test_a_slide_without_mpp_is_refused_unless_it_is_given(tmp_path, small_image, write):
    path = write(tmp_path / "slide.tiff", small_image)
    with pytest.raises(UserError, match=r"does not say its mpp.*--mpp"):
        Slide.open(path)
    with Slide.open(path, 0.5) as slide:
        assert slide.mpp == 0.5


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_plain_images_open_with_a_stated_mpp(tmp_path, small_image, suffix):
    path = tmp_path / f"tissue {suffix}"
    cv2.imwrite(str(path), small_image)
    with Slide.open(path, 2.0) as slide:
        assert (slide.size, slide.name) == (Size(400, 300), safe_name(path))
        expected = cv2.imread(str(path))[10:20, 30:50, ::-1]
        np.testing.assert_array_equal(slide.read(Region(30, 10, 20, 10), Size(20, 10)), expected)
    with pytest.raises(UserError, match="does not say its mpp"):
        Slide.open(path)


def test_missing_and_unreadable_files_are_one_clear_line(tmp_path, svs_slide):
    with pytest.raises(UserError, match="no such slide"):
        Slide.open(tmp_path / "none.svs")
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(UserError, match=r"text\.svs: neither a slide"):
        Slide.open(tmp_path / "text.svs", 0.5)
    (tmp_path / "empty.svs").touch()
    (tmp_path / "link.svs").symlink_to(tmp_path / "gone.svs")
    os.mkfifo(tmp_path / "pipe.svs")
    (tmp_path / "scan.vsi").write_bytes(b"of a microscope")
    reasons = {
        "empty.svs": "an empty file",
        "link.svs": "a link to nothing",
        "pipe.svs": "no regular file",
        "scan.vsi": "a format that is not read",
        "": "a folder",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=f"{tmp_path / name}: {reason}"):
            Slide.open(tmp_path / name, 0.5)
    data = svs_slide.read_bytes()
    (tmp_path / "cut.svs").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"cut\.svs: .*damaged or not complete"):
        Slide.open(tmp_path / "cut.svs", 0.5)


def test_damaged_pixels_are_an_error_when_read(tmp_path, svs_slide):
    data = bytearray(svs_slide.read_bytes())
    data[2_000:40_000] = bytes(38_000)
    path = tmp_path / "damaged.svs"
    path.write_bytes(data)
    with Slide.open(path) as slide, pytest.raises(UserError, match=r"damaged\.svs: pixels not readable"):
        slide.read(Region(0, 0, 512, 512), Size(512, 512))


def test_white_outside_the_slide(svs_slide):
    with Slide.open(svs_slide) as slide:
        assert (slide.read(Region(-500, -500, 400, 400), Size(100, 100)) == 255).all()
        corner = slide.read(Region(-200, -100, 600, 600), Size(300, 300))
        assert (corner[:50] == 255).all()
        assert (corner[:, :100] == 255).all()
        assert corner[90:, 190:].mean() < 220


def test_level_0_is_returned_as_it_is(svs_slide, slide_image):
    with Slide.open(svs_slide) as slide:
        pixels = slide.read(Region(101, 203, 256, 200), Size(256, 200))
        assert np.abs(pixels.astype(int) - slide_image[203:403, 101:357]).mean() < 4


def test_whole_factors_are_exact_area_averages(tmp_path, small_image):
    cv2.imwrite(str(tmp_path / "image.png"), small_image)
    with Slide.open(tmp_path / "image.png", 1.0) as slide:
        pixels = slide.read(Region(8, 4, 320, 240), Size(80, 60))
    blocks = small_image[4:244, 8:328, ::-1].reshape(60, 4, 80, 4, 3).mean((1, 3))
    assert np.abs(pixels - blocks).max() <= 0.5


@pytest.mark.parametrize("region", [(0, 0, 400, 300), (-30, 8, 320, 320), (3.3, 5.7, 350.9, 250.1), (0, 0, 90, 300)])
@pytest.mark.parametrize("size", [Size(40, 30), Size(31, 47), Size(150, 150)])
def test_reading_in_bands_changes_nothing(tmp_path, small_image, monkeypatch, region, size):
    cv2.imwrite(str(tmp_path / "image.png"), small_image)
    with Slide.open(tmp_path / "image.png", 1.0) as slide:
        at_once = slide.read(Region(*region), size)
        monkeypatch.setattr("preprocess.slides.slide._MAX_READ_PX", 7_000)
        in_bands = slide.read(Region(*region), size)
    # Filters round their weights per band.
    assert np.abs(in_bands.astype(int) - at_once).max() <= 1


def test_both_readers_give_the_same_image(svs_slide, monkeypatch):
    regions = [(Region(256, 0, 512, 512), Size(256, 256)), (Region(-9.5, 700.3, 811, 640), Size(233, 187))]
    images = []
    for reader in ("tiff", "openslide"):
        monkeypatch.setenv("MHKD_READER", reader)
        with Slide.open(svs_slide) as slide:
            images.append([slide.read(*request) for request in regions])
    for direct, reference in zip(*images, strict=True):
        np.testing.assert_array_equal(direct, reference)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.one_of(st.sampled_from([1, 2, 4, 8, 16, 3.96, 4.04, 15.9]), st.floats(0.6, 17)))
def test_any_region_at_any_scale_shows_what_is_there(wave_slides, data, scale):
    width, height = data.draw(st.integers(20, 90)), data.draw(st.integers(20, 90))
    x = data.draw(st.floats(0, WAVE_WH[0] - 16 - width * scale))
    y = data.draw(st.floats(0, WAVE_WH[1] - 16 - height * scale))
    expected = wave(x + (np.arange(width) + 0.5) * scale, y + (np.arange(height)[:, None] + 0.5) * scale)
    for slide in wave_slides:
        pixels = slide.read(Region(x, y, width * scale, height * scale), Size(width, height))
        assert pixels.shape == (height, width, 3)
        # Half a pixel of shift at scale 16 would be 15 grey levels.
        assert np.abs(pixels[2:-2, 2:-2, 0] - expected[2:-2, 2:-2]).max() < 7


@pytest.mark.parametrize("student_px", [128, 64, 32, 101, 37])
@pytest.mark.parametrize("offset", [(0, 0), (203, 77), (401.3, 311.7)])
def test_one_region_at_two_sizes_is_aligned(svs_slide, student_px, offset):
    region = Region(*offset, 700, 700)
    with Slide.open(svs_slide) as slide:
        teacher = slide.read(region, Size(512, 512))
        student = slide.read(region, Size(student_px, student_px))
    reduced = cv2.resize(teacher, (student_px, student_px), interpolation=cv2.INTER_AREA)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) for image in (reduced, student)]
    shift, _ = cv2.phaseCorrelate(*grey, cv2.createHanningWindow((student_px, student_px), cv2.CV_64F))
    assert np.abs(shift).max() < 0.25


def test_thumbnail_keeps_the_shape_and_never_enlarges(svs_slide):
    with Slide.open(svs_slide) as slide:
        assert slide.thumbnail(150).shape == (120, 150, 3)
        assert slide.thumbnail(9999).shape == (1200, 1500, 3)
