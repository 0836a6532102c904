"""Pyramids as OpenSlide sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest

from preprocess.base.files import sha256_of
from preprocess.synthetic.svs import write_plain_tiff, write_svs


@pytest.fixture
def image() -> np.ndarray:
    ramp = np.linspace(40, 220, 640)
    red, green = np.meshgrid(ramp, ramp[:512])
    return np.stack([red, green, np.full_like(red, 128)], axis=-1).astype(np.uint8)


def test_an_svs_states_mpp_power_levels_and_has_a_thumbnail(tmp_path: Path, image: np.ndarray) -> None:
    with openslide.OpenSlide(write_svs(tmp_path / "a.svs", image, mpp=0.4990)) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.499)
        assert slide.properties["openslide.objective-power"] == "20"
        assert slide.level_dimensions == ((640, 512), (160, 128), (40, 32))
        assert slide.level_downsamples == (1.0, 4.0, 16.0)
        assert "thumbnail" in slide.associated_images
        assert slide.properties["openslide.level[0].tile-width"] == "256"


def test_an_svs_can_leave_out_mpp_and_power(tmp_path: Path, image: np.ndarray) -> None:
    path = write_svs(tmp_path / "a.svs", image, mpp=None, objective_power=None, downsamples=())
    with openslide.OpenSlide(path) as slide:
        assert "openslide.mpp-x" not in slide.properties
        assert "openslide.objective-power" not in slide.properties
        assert slide.level_count == 1


def test_a_plain_tiff_is_a_pyramid_without_mpp(tmp_path: Path, image: np.ndarray) -> None:
    with openslide.OpenSlide(write_plain_tiff(tmp_path / "a.tiff", image)) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert not [name for name in slide.properties if "mpp" in name or "objective" in name]
        assert slide.level_dimensions == ((640, 512), (160, 128), (40, 32))


@pytest.mark.parametrize("write", [write_svs, write_plain_tiff])
def test_the_pixels_survive_and_levels_are_averages(tmp_path: Path, image: np.ndarray, write) -> None:
    with openslide.OpenSlide(write(tmp_path / "a.tiff", image, quality=95)) as slide:
        full = np.asarray(slide.read_region((0, 0), 0, (640, 512)).convert("RGB"), dtype=float)
        quarter = np.asarray(slide.read_region((0, 0), 1, (160, 128)).convert("RGB"), dtype=float)
    assert np.abs(full - image).mean() < 2
    blocks = image.reshape(128, 4, 160, 4, 3).mean(axis=(1, 3))
    assert np.abs(quarter - blocks).mean() < 2


@pytest.mark.parametrize("write", [write_svs, write_plain_tiff])
def test_the_same_image_gives_the_same_bytes(tmp_path: Path, image: np.ndarray, write) -> None:
    first, second = tmp_path / "one" / "a.svs", tmp_path / "two" / "a.svs"
    assert sha256_of(write(first, image)) == sha256_of(write(second, image))


def test_sides_that_no_level_divides_are_read_whole(tmp_path: Path) -> None:
    image = np.full((301, 517, 3), 200, np.uint8)
    with openslide.OpenSlide(write_svs(tmp_path / "a.svs", image)) as slide:
        assert slide.level_dimensions == ((517, 301), (129, 75), (32, 18))
