from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides import damaged_slide
from preprocess.slides.damaged_slide import DamagedSlide
from preprocess.slides.slide import Slide, open_reader
from tests.blobs import damage_tile, write_blob_slide

# Tiles of 256 px; levels of 1, 4 and 16. Tile (2, 1) of level 0 covers this.
DAMAGED = Region(512, 256, 256, 256)


@pytest.fixture
def damaged(tmp_path):
    return damage_tile(write_blob_slide(tmp_path / "damaged.svs"), 0, 2, 1)


@pytest.fixture
def whole(tmp_path):
    return write_blob_slide(tmp_path / "whole.svs")


def union(slide):
    covered = np.zeros((1500, 2000), bool)
    for x0, y0, x1, y1 in slide.unreadable_l0.round().astype(int):
        covered[y0:y1, x0:x1] = True
    return covered


@pytest.mark.parametrize("reader", ["auto", "openslide"])
def test_all_but_the_damaged_tile_is_read_and_the_rest_is_on_record(damaged, whole, monkeypatch, reader):
    monkeypatch.setenv("MHKD_READER", reader)
    region = Region(256, 0, 768, 768)
    with Slide.open(damaged) as slide, pytest.raises(UserError):
        slide.read(region, Size(768, 768))
    with DamagedSlide.open(damaged) as slide, Slide.open(whole) as reference:
        image = slide.read(region, Size(768, 768))
        expected = reference.read(region, Size(768, 768))
        covered = union(slide)
        # The other places are read as if nothing were wrong, before and after.
        elsewhere = Region(1024, 512, 256, 256)
        assert (slide.read(elsewhere, Size(256, 256)) == reference.read(elsewhere, Size(256, 256))).all()
    assert covered[256:512, 512:768].all()
    part = covered[0:768, 256:1024]
    assert (image[part] == 255).all()
    assert (image[~part] == expected[~part]).all()
    assert covered.sum() == 256**2


def test_nothing_is_on_record_where_all_can_be_read(whole):
    with DamagedSlide.open(whole) as slide:
        slide.thumbnail(500)
        assert slide.unreadable_l0.shape == (0, 4)


def test_a_damaged_coarse_level_is_made_up_for_by_a_finer_one(tmp_path, whole):
    path = damage_tile(write_blob_slide(tmp_path / "a.svs"), 1, 0, 0)
    with DamagedSlide.open(path) as slide, Slide.open(whole) as reference:
        image = slide.read(slide.region, Size(500, 375))
        expected = reference.read(slide.region, Size(500, 375))
        assert len(slide.unreadable_l0) == 0
    assert np.abs(image.astype(int) - expected).mean() < 3


def test_the_same_from_several_threads(damaged):
    regions = [Region(x, y, 256, 256) for y in range(0, 1280, 128) for x in range(0, 1792, 128)]

    def read(slide, threads):
        with ThreadPoolExecutor(threads) as pool:
            images = list(pool.map(lambda region: slide.read(region, Size(64, 64)), regions))
        return images, slide.unreadable_l0

    with DamagedSlide.open(damaged) as one, DamagedSlide.open(damaged) as other:
        (images, places), (same_images, same_places) = read(one, 1), read(other, 4)
    assert all((a == b).all() for a, b in zip(images, same_images, strict=True))
    np.testing.assert_array_equal(places, same_places)


def test_a_slide_that_vanished_is_an_error_and_no_damage(damaged):
    with DamagedSlide.open(damaged) as slide:
        damaged.unlink()
        with pytest.raises((UserError, OSError)):
            slide.read(DAMAGED, Size(256, 256))


@pytest.mark.parametrize("reader", ["auto", "openslide"])
def test_one_unreadable_tile_costs_two_reopenings(damaged, monkeypatch, reader):
    monkeypatch.setenv("MHKD_READER", reader)
    opened = []
    monkeypatch.setattr(damaged_slide, "open_reader", lambda path: opened.append(1) or open_reader(path))
    with DamagedSlide.open(damaged) as slide:
        slide.read(slide.region, Size(2000, 1500))
        for x in range(0, 1800, 150):
            slide.read(Region(x, 200, 333, 333), Size(111, 111))
        assert len(opened) <= 2
        assert slide.unreadable_l0.tolist() == [[512, 256, 768, 512]]


def test_many_unreadable_tiles_of_all_levels(tmp_path, whole):
    path = write_blob_slide(tmp_path / "a.svs")
    for level, column, row in ((0, 7, 5), (0, 3, 3), (1, 0, 0), (1, 1, 1), (2, 0, 0)):
        damage_tile(path, level, column, row)
    with DamagedSlide.open(path) as slide, Slide.open(whole) as reference:
        for size in (Size(125, 93), Size(500, 375), Size(2000, 1500)):
            image, expected = slide.read(slide.region, size).astype(int), reference.read(slide.region, size)
            assert np.abs(image - expected).mean() < 12
        assert slide.unreadable_l0.tolist() == [[768, 768, 1024, 1024], [1792, 1280, 2000, 1500]]
