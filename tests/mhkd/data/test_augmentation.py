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


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_a_zoom_shows_one_place_at_both_sizes(seed: int) -> None:
    teacher = np.full((256, 256, 3), 200, np.uint8)
    cv2.circle(teacher, (120, 140), 40, (40, 40, 40), -1)
    student = cv2.resize(teacher, (64, 64), interpolation=cv2.INTER_AREA)
    augmentation = Augmentation.draw(np.random.default_rng(seed), color_jitter=0.0, zoom=0.3)
    for image, scale in ((teacher, 1.0), (student, 0.25)):
        transforms = augmentation.build(image)
        ys, xs = np.nonzero(transforms.apply_image(image)[..., 0] < 120)
        box = transforms.apply_box(np.array([[80, 100, 161, 181]]) * scale)[0]
        seen = np.array((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
        # A pixel of the image is up to 1.3 pixels after the zoom.
        assert np.abs(seen - box.clip(0, image.shape[0])).max() <= 1.5
        side = box[2] - box[0]
        assert 81 * scale / 1.31 <= side <= 81 * scale * 1.31


def test_without_zoom_nothing_is_resampled() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    augmentation = Augmentation.draw(rng, color_jitter=0.0)
    assert sorted(augmentation.build(image).apply_image(image).ravel()) == sorted(image.ravel())
