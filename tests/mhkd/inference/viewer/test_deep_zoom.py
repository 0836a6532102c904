from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhkd.inference.viewer.deep_zoom import OVERLAP_PX, TILE_PX, DeepZoom
from preprocess.base.geometry import Region, Size
from preprocess.slides.slide import Slide
from preprocess.synthetic.svs import write_svs
from tests.blobs import DISCS, draw
from tests.scn import write_scn


def stitch(zoom: DeepZoom, level: int) -> np.ndarray:
    """The whole level from its tiles, each without its overlap."""
    columns, rows = zoom.num_tiles(level)
    strips = []
    for row in range(rows):
        tiles = []
        for column in range(columns):
            tile = zoom.tile(level, column, row)
            top, left = OVERLAP_PX * (row > 0), OVERLAP_PX * (column > 0)
            tiles.append(tile[top : top + TILE_PX, left : left + TILE_PX])
        strips.append(np.hstack(tiles))
    return np.vstack(strips)


def test_tiles_of_the_last_level_are_the_slide(svs_slide):
    with Slide.open(svs_slide) as slide:
        zoom = DeepZoom(slide)
        whole = stitch(zoom, zoom.max_level)
        np.testing.assert_array_equal(whole, slide.read(slide.region, Size(1500, 1200)))


def test_every_level_shows_the_whole_slide(svs_slide):
    with Slide.open(svs_slide) as slide:
        zoom = DeepZoom(slide)
        assert zoom.num_tiles(zoom.min_level) == (1, 1)
        for level in range(zoom.min_level, zoom.max_level + 1):
            size, factor = zoom.level_size(level), 2 ** (zoom.max_level - level)
            picture = stitch(zoom, level)
            assert picture.shape == (size.height, size.width, 3)
            # What lies beyond the slide is white: the level's pixels are not squeezed into it.
            region = Region(0, 0, size.width * factor, size.height * factor)
            assert np.abs(picture.astype(int) - slide.read(region, size)).mean() < 2


def test_only_what_was_scanned_is_shown_and_boxes_are_where_it_is(tmp_path):
    path = write_scn(tmp_path / "a.scn", draw(), size_wh=(4000, 3200), offset_xy=(1600, 800))
    with Slide.open(path) as slide:
        zoom = DeepZoom(slide)
        assert zoom.size == Size(2000, 1500)
        x, y, radius = DISCS[0]
        (box,) = zoom.to_display([(1600 + x - radius, 800 + y - radius, 1600 + x + radius, 800 + y + radius)])
        assert box.tolist() == [x - radius, y - radius, x + radius, y + radius]
        whole = stitch(zoom, zoom.max_level)
        assert np.abs(whole[y, x].astype(int) - (90, 40, 140)).max() < 20


def test_pixels_that_are_not_square_are_shown_square(tmp_path):
    image = np.full((600, 800, 3), 255, np.uint8)
    image[200:300, 100:300] = 0
    path = write_svs(tmp_path / "a.svs", image)
    with Slide.open(path) as slide:
        slide.mpp_xy = (0.25, 0.5)
        zoom = DeepZoom(slide)
        assert (zoom.mpp, zoom.size) == (0.25, Size(800, 1200))
        assert zoom.to_display([(100, 200, 300, 300)]).tolist() == [[100, 400, 300, 600]]
        whole = stitch(zoom, zoom.max_level)
        assert whole[410:590, 110:290].max() < 40
        assert whole[610:630, 110:290].min() > 215


class Blank:
    """As large a slide as one likes."""

    mpp_xy = (0.25, 0.25)

    def __init__(self, width: int, height: int) -> None:
        self.region = Region(0, 0, width, height)
        self.asked: list[tuple[Region, Size]] = []

    def read(self, region: Region, size: Size) -> np.ndarray:
        self.asked.append((region, size))
        return np.zeros((size.height, size.width, 3), np.uint8)


@given(st.integers(1, 200_000), st.integers(1, 200_000), st.data())
def test_tiles_cover_their_level_without_gaps(width, height, data):
    slide = Blank(width, height)
    zoom = DeepZoom(slide)
    level = data.draw(st.integers(zoom.min_level, zoom.max_level))
    columns, rows = zoom.num_tiles(level)
    assert zoom.num_tiles(zoom.min_level) == (1, 1)
    zoom.tile(level, columns - 1, rows - 1)
    region, size = slide.asked[-1]
    factor = 2 ** (zoom.max_level - level)
    # It ends with the slide or less than one of its pixels beyond.
    assert width <= region.x1 + 1e-6 < width + factor + 1e-6
    assert height <= region.y1 + 1e-6 < height + factor + 1e-6
    assert region.width / size.width == pytest.approx(factor)
    with pytest.raises(IndexError):
        zoom.tile(level, columns, 0)
    with pytest.raises(IndexError):
        zoom.tile(level, 0, rows)


@pytest.mark.parametrize("place", [(99, 0, 0), (-1, 0, 0), (11, -1, 0), (11, 0, -1)])
def test_what_does_not_exist_is_refused(svs_slide, place):
    with Slide.open(svs_slide) as slide, pytest.raises(IndexError):
        DeepZoom(slide).tile(*place)
