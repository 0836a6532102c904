from __future__ import annotations

import cv2
import numpy as np
import pytest
from detectron2.structures import BoxMode
from fvcore.transforms.transform import TransformList

from mhkd.data.augmentation import ZoomTransform
from mhkd.data.datasets import tile_dicts
from mhkd.data.mapper import TilePairMapper, ground_truth
from preprocess.tiles.manifest import Manifest


def annotation(*box: float, iscrowd: int = 0) -> dict[str, object]:
    return {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": iscrowd}


def test_boxes_follow_a_zoom_and_mostly_cut_ones_are_to_be_ignored() -> None:
    # The middle half of 100 px, enlarged to 100 px: 25..75 becomes 0..100.
    zoom = TransformList([ZoomTransform(25, 25, 0.5)])
    boxes = [
        annotation(30, 40, 50, 60),
        annotation(15, 40, 45, 60),  # two thirds of it remain
        annotation(5, 40, 35, 60),  # one third
        annotation(0, 0, 20, 20),  # nothing
        annotation(40, 40, 50, 50, iscrowd=1),
    ]
    found, ignored = ground_truth(boxes, zoom, (100, 100))
    np.testing.assert_allclose(found.gt_boxes.tensor.numpy(), [[10, 30, 50, 70], [0, 30, 40, 70]])
    np.testing.assert_allclose(ignored.tensor.numpy(), [[0, 30, 20, 70], [30, 30, 50, 50]])


def test_a_tile_brings_its_ignored_boxes_in_pixels_of_the_image(tile_pairs) -> None:
    tile = tile_dicts(Manifest.read(tile_pairs), "train", "student")[0]
    (marked,) = (item | {"iscrowd": 1} for item in tile["annotations"])
    mapper = TilePairMapper(with_teacher=False, color_jitter=0.0)
    as_object = mapper(tile, np.random.default_rng(2))
    as_ignored = mapper(tile | {"annotations": [marked]}, np.random.default_rng(2))
    assert (len(as_object["instances"]), len(as_object["ignored_boxes"])) == (1, 0)
    assert len(as_ignored["instances"]) == 0
    assert as_ignored["ignored_boxes"].tensor.tolist() == as_object["instances"].gt_boxes.tensor.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_both_images_of_a_pair_and_the_boxes_have_one_draw(tile_pairs, seed: int) -> None:
    """The dark disc lies where its box says, at both sizes, and in one colour."""
    tile = tile_dicts(Manifest.read(tile_pairs), "train", "student")[0]
    mapped = TilePairMapper(with_teacher=True, color_jitter=0.3, zoom=0.3)(tile, np.random.default_rng(seed))
    image, teacher = (mapped[name].numpy().transpose(1, 2, 0) for name in ("image", "teacher_image"))
    assert (image.shape, teacher.shape) == ((32, 32, 3), (128, 128, 3))
    assert (mapped["height"], mapped["width"]) == (32, 32)
    apart = cv2.resize(teacher, (32, 32), interpolation=cv2.INTER_AREA).astype(int) - image
    assert np.abs(apart).mean() < 5
    (box,) = mapped["instances"].gt_boxes.tensor.numpy()
    for pixels, scale in ((image, 1), (teacher, 4)):
        left, top, right, bottom = (box * scale).round().astype(int)
        inside = pixels[top:bottom, left:right].mean()
        assert inside < pixels.mean() - 5
    assert "teacher_image" not in TilePairMapper(with_teacher=False, color_jitter=0.0)(tile, np.random.default_rng(0))


def test_a_teacher_may_see_low_magnification_too_in_its_own_frame(tile_pairs) -> None:
    tile = tile_dicts(Manifest.read(tile_pairs), "train", "teacher")[0]
    high, low = (
        TilePairMapper(with_teacher=False, color_jitter=0.0, low_share=share)(tile, np.random.default_rng(0))
        for share in (0.0, 1.0)
    )
    assert low["image"].shape == high["image"].shape == (3, 128, 128)
    enlarged = cv2.resize(cv2.imread(tile["student_file_name"]), (128, 128), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(np.sort(low["image"].numpy().ravel()), np.sort(enlarged.ravel()), atol=1)  # flips apart
    (box,) = low["instances"].gt_boxes.tensor.numpy().round().astype(int)
    pixels = low["image"].numpy()
    assert pixels[:, box[1] : box[3], box[0] : box[2]].mean() < pixels.mean() - 5


def test_the_share_of_low_magnification_is_kept(tile_pairs) -> None:
    tile = tile_dicts(Manifest.read(tile_pairs), "train", "teacher")[0]
    mapper = TilePairMapper(with_teacher=False, color_jitter=0.0, low_share=0.3)
    rng = np.random.default_rng(0)
    enlarged = cv2.resize(cv2.imread(tile["student_file_name"]), (128, 128), interpolation=cv2.INTER_LINEAR).mean()
    means = np.array([mapper(tile, rng)["image"].numpy().mean() for _ in range(60)])
    assert 0.15 < (np.abs(means - enlarged) < 1e-3).mean() < 0.45
