from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mhkd.data.augmentation import Augmentation


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_both_sizes_and_the_boxes_move_together(seed: int) -> None:
    teacher = np.full((64, 64, 3), 200, np.uint8)
    teacher[8:24, 32:56] = 40
    student = cv2.resize(teacher, (16, 16), interpolation=cv2.INTER_AREA)
    augmentation = Augmentation.draw(np.random.default_rng(seed), color_jitter=0.1)
    big = augmentation.build(teacher)
    small = augmentation.build(student)
    moved = cv2.resize(big.apply_image(teacher), (16, 16), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(moved - small.apply_image(student)).max() <= 6
    x0, y0, x1, y1 = small.apply_box(np.array([[8, 2, 14, 6]]))[0].astype(int)
    ys, xs = np.nonzero(small.apply_image(student)[..., 0] < 120)
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (x0, y0, x1, y1)
