from __future__ import annotations

import numpy as np

from mhkd.inference.report.crops import CROP_PX, crop_detection
from preprocess.slides.slide import Slide

RED = (255, 0, 0)


def test_the_object_is_in_the_middle_and_outlined(svs_slide, discs):
    with Slide.open(svs_slide) as slide:
        for x, y, radius in discs.tolist():
            crop = crop_detection(slide, (x - radius, y - radius, x + radius, y + radius), RED)
            assert crop.shape == (CROP_PX, CROP_PX, 3)
            middle = crop[CROP_PX // 2 - 3 : CROP_PX // 2 + 3, CROP_PX // 2 - 3 : CROP_PX // 2 + 3].mean(axis=(0, 1))
            assert np.abs(middle - (110, 50, 140)).max() < 12
            rows, columns = np.nonzero((crop == RED).all(axis=2))
            # 1.3 times the box: what is left of it and right of it is a tenth of the picture and a bit.
            edge = CROP_PX * (1 - 1 / 1.3) / 2
            assert max(abs(v - edge) for v in (rows.min(), columns.min())) <= 1
            assert max(abs(CROP_PX - edge - v) for v in (rows.max(), columns.max())) <= 1


def test_beyond_the_slide_it_is_white_and_a_point_has_a_picture(svs_slide):
    with Slide.open(svs_slide) as slide:
        assert (crop_detection(slide, (0, 0, 100, 100), RED)[:5] == 255).all()
        assert crop_detection(slide, (300, 260, 300, 260), RED).shape == (CROP_PX, CROP_PX, 3)
