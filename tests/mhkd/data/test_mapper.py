from __future__ import annotations

import numpy as np
from detectron2.structures import BoxMode
from fvcore.transforms.transform import TransformList

from mhkd.data.augmentation import ZoomTransform
from mhkd.data.mapper import ground_truth


def annotation(*box: float, iscrowd: int = 0) -> dict[str, object]:
    return {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": iscrowd}


def test_boxes_follow_a_zoom_and_mostly_cut_ones_are_left_out() -> None:
    # The middle half of 100 px, enlarged to 100 px: 25..75 becomes 0..100.
    zoom = TransformList([ZoomTransform(25, 25, 0.5)])
    boxes = [
        annotation(30, 40, 50, 60),
        annotation(15, 40, 45, 60),  # two thirds of it remain
        annotation(5, 40, 35, 60),  # one third
        annotation(0, 0, 20, 20),  # nothing
        annotation(40, 40, 50, 50, iscrowd=1),
    ]
    found = ground_truth(boxes, zoom, (100, 100))
    np.testing.assert_allclose(found.gt_boxes.tensor.numpy(), [[10, 30, 50, 70], [0, 30, 40, 70]])
