from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform

from mhkd.modeling.dense_head import Cut, Predictions, told

CLASSES, ANCHORS, SIZES = 3, 2, [(4, 3), (2, 2)]
DETECTOR: Any = SimpleNamespace(
    num_classes=CLASSES,
    box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
    anchor_generator=DefaultAnchorGenerator(sizes=[[8, 16], [32, 64]], aspect_ratios=[1.0], strides=[8, 16]),
)


def maps(columns: int) -> list[torch.Tensor]:
    """A number for each (level, image, anchor, column, y, x), so that every value says where it comes from."""
    made = []
    for level, (height, width) in enumerate(SIZES):
        axes = [torch.arange(n) for n in (2, ANCHORS, columns, height, width)]
        image, anchor, column, y, x = torch.meshgrid(*axes, indexing="ij")
        value = (((((level * 2 + image) * 10 + anchor) * 10 + column) * 10 + y) * 10 + x).float()
        made.append(value.flatten(1, 2))
    return made


def test_locations_come_level_by_level_and_only_from_the_cells_in_common() -> None:
    cuts = [Cut(1, 1, 2), Cut(0, 2, 1)]
    found = Predictions.at(DETECTOR, [maps(CLASSES), maps(4), maps(1)], cuts, torch.tensor([[1.0] * 4, [2.0] * 4]))
    expected = [
        [(((level * 2 + image) * 10 + anchor) * 10 + column) * 100 + y * 10 + x for column in range(CLASSES)]
        for level, ys, xs in ((1, (0,), (0, 1)), (0, (0, 1), (0,)))
        for image in range(2)
        for y in ys
        for x in xs
        for anchor in range(ANCHORS)
    ]
    assert found.logits.tolist() == expected
    assert found.deltas[:, 0].tolist() == [row[0] for row in expected]
    assert found.centerness is not None
    assert found.centerness.tolist() == [row[0] for row in expected]
    assert found.factors[:, 0].tolist() == [1.0] * 4 + [2.0] * 4 + [1.0] * 4 + [2.0] * 4
    # The last location: level 0 (stride 8), y = 1, x = 0, its second anchor of 16 px around the middle of the cell.
    assert found.anchors[-1].tolist() == [4 - 8, 12 - 8, 4 + 8, 12 + 8]


def test_boxes_are_in_the_frame_of_the_student() -> None:
    flat = Predictions.at(
        DETECTOR, [maps(CLASSES), [0 * m for m in maps(4)]], [Cut(0, 1, 1)], torch.tensor([[2.0] * 4] * 2)
    )
    chosen = torch.tensor([True, False, False, False])
    assert flat.boxes(DETECTOR, chosen).tolist() == [[0, 0, 4, 4]]  # the anchor (0, 0, 8, 8) in pixels twice as large
    assert flat.centerness is None


def test_what_was_said_is_cut_like_the_predictions() -> None:
    cuts = [Cut(1, 1, 2), Cut(0, 2, 1)]
    logits = maps(1)
    everywhere = torch.cat([m.permute(0, 2, 3, 1).flatten(1) for m in logits], dim=1)
    found = Predictions.at(DETECTOR, [maps(CLASSES), maps(4), logits], cuts, torch.ones(2, 4))
    assert found.centerness is not None
    assert torch.equal(told(list(everywhere), [logits], cuts, ANCHORS), found.centerness)
    boxes = everywhere[..., None].expand(-1, -1, 4)
    assert torch.equal(told(list(boxes), [logits], cuts, ANCHORS)[:, 3], found.centerness)
