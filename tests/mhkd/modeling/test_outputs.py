from __future__ import annotations

import torch
from detectron2.structures import Boxes, ImageList, Instances

from mhkd.modeling.outputs import View


def test_a_view_knows_both_frames() -> None:
    """Two images of unlike size; the teacher's are 2 and 4 times as large, the second by another factor in height."""
    truth = [Instances(size, gt_boxes=Boxes(torch.tensor([[1.0, 2, 3, 4]]))) for size in ((8, 10), (6, 16))]
    for instances in truth:
        instances.gt_classes = torch.tensor([3])
    view = View(
        images=ImageList(torch.zeros(2, 3, 32, 32), [(8, 10), (6, 16)]),
        ground_truth=truth,
        features={},
        teacher_images=ImageList(torch.zeros(2, 3, 64, 64), [(16, 20), (18, 64)]),
        teacher_pyramid={},
    )
    assert view.size_hw == (8, 16)
    assert view.scales == [(2.0, 2.0), (4.0, 3.0)]
    moved = view.teacher_ground_truth()
    assert [x.image_size for x in moved] == [(16, 20), (18, 64)]
    assert moved[0].gt_boxes.tensor.tolist() == [[2, 4, 6, 8]]
    assert moved[1].gt_boxes.tensor.tolist() == [[4, 6, 12, 12]]
    assert moved[1].gt_classes.tolist() == [3]
    assert truth[0].gt_boxes.tensor.tolist() == [[1, 2, 3, 4]]
