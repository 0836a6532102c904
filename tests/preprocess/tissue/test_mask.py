from __future__ import annotations

import cv2
import numpy as np
import pytest

from preprocess.base.geometry import Region
from preprocess.slides.slide import Slide
from preprocess.tissue.mask import TissueMask

GLASS, PINK = (243, 241, 243), (222, 150, 190)


def mask_of(tmp_path, image, mpp=8.0):
    path = tmp_path / "slide.png"
    cv2.imwrite(str(path), image[..., ::-1])
    with Slide.open(path, mpp) as slide:
        return TissueMask.of(slide)


def glass(height=600, width=800):
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return np.clip(GLASS + noise, 0, 255).astype(np.uint8)


def test_the_tissue_of_a_slide(svs_slide):
    with Slide.open(svs_slide) as slide:
        tissue = TissueMask.of(slide)
    # 1040 x 1080 px of 0.5 um
    assert tissue.area_um2() == pytest.approx(1040 * 1080 * 0.25, rel=0.08)
    assert tissue.coverage(Region(300, 300, 400, 400)) == pytest.approx(1)
    assert tissue.coverage(Region(1200, 100, 200, 900)) == 0
    assert tissue.coverage(Region(900, 300, 400, 400)) == pytest.approx(0.5, abs=0.06)


def test_glass_has_no_tissue(tmp_path):
    tissue = mask_of(tmp_path, glass())
    assert tissue.area_um2() == 0
    assert tissue.coverage(tissue.region) == 0


def test_a_slide_that_is_all_tissue(tmp_path):
    image = np.clip(PINK + np.random.default_rng(0).normal(0, 12, (400, 400, 3)), 0, 255).astype(np.uint8)
    assert mask_of(tmp_path, image).coverage(Region(0, 0, 400, 400)) > 0.99


@pytest.mark.parametrize(
    "ink", [(20, 130, 60), (20, 40, 200), (15, 15, 15), (230, 10, 20)], ids=["green", "blue", "black", "red"]
)
def test_ink_is_no_tissue(tmp_path, ink):
    image = glass()
    cv2.rectangle(image, (500, 50), (700, 550), PINK, -1)
    cv2.line(image, (100, 50), (300, 500), ink, 24)
    tissue = mask_of(tmp_path, image)
    assert tissue.coverage(Region(0, 0, 400, 600)) < 0.03
    assert tissue.coverage(Region(510, 60, 180, 480)) > 0.95


def test_lumina_are_filled(tmp_path):
    image = glass()
    cv2.rectangle(image, (100, 100), (700, 500), PINK, -1)
    cv2.circle(image, (400, 300), 12, GLASS, -1)
    assert mask_of(tmp_path, image).coverage(Region(300, 200, 200, 200)) == pytest.approx(1)


def test_coverage_counts_parts_of_mask_pixels_and_nothing_outside():
    tissue = TissueMask(np.array([[True, False], [False, False]]), Region(0, 0, 20, 20), 1.0)
    assert tissue.coverage(Region(0, 0, 20, 20)) == pytest.approx(0.25)
    assert tissue.coverage(Region(5, 0, 10, 10)) == pytest.approx(0.5)
    assert tissue.coverage(Region(7.5, 7.5, 5, 5)) == pytest.approx(0.25)
    assert tissue.coverage(Region(-10, 0, 20, 10)) == pytest.approx(0.5)
    assert tissue.coverage(Region(100, 100, 5, 5)) == 0
    assert tissue.area_um2() == 100
