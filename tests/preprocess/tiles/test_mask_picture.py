from __future__ import annotations

import cv2
import numpy as np

from preprocess.annotations import read_annotations
from preprocess.slides.slide import Slide
from preprocess.tiles.mask_picture import mask_picture
from preprocess.tiles.pairs import PairSpec, plan_tiles


def test_tissue_objects_and_tiles_are_drawn_where_they_are(svs_slide, geojson):
    with Slide.open(svs_slide) as slide:
        plan = plan_tiles(slide, read_annotations(geojson), PairSpec(tile_px=128, overlap=0, empty_ratio=0.5))
        picture = mask_picture(slide, plan)
    # 1500 x 1200 px at 1024 px, and a caption below.
    assert picture.shape == (819 + 24, 1024, 3)
    scale = 1024 / 1500
    green = np.argwhere((picture[:819] == (0, 150, 0)).all(axis=2))
    # The tissue spans 60 to 1140 px in y and 60 to 1100 px in x.
    assert np.allclose(green.min(axis=0), np.array((60, 60)) * scale, atol=12)
    assert np.allclose(green.max(axis=0), np.array((1140, 1100)) * scale, atol=12)
    red = (picture[:819] == (255, 0, 0)).all(axis=2)
    # The left edge of the disc at (700, 420) with a radius of 80.
    assert red[int(410 * scale) : int(430 * scale), round(620 * scale) - 1 : round(620 * scale) + 2].any()
    assert not red[: int(190 * scale)].any()
    # Above the tissue and right of it there are only grey tiles; glass between them stays as it is.
    blue, grey = ((picture[:819] == colour).all(axis=2) for colour in ((20, 60, 220), (170, 170, 170)))
    assert blue.any()
    assert grey[:, int(1300 * scale) :].any()
    assert not blue[:, int(1300 * scale) :].any()


def test_a_slide_of_glass_alone_has_a_picture(tmp_path):
    cv2.imwrite(str(tmp_path / "glass.png"), np.full((30, 20, 3), 244, np.uint8))
    with Slide.open(tmp_path / "glass.png", 8.0) as slide:
        picture = mask_picture(slide, plan_tiles(slide, [], PairSpec(tile_px=128)))
    assert picture.shape == (30 + 24, 560, 3)
