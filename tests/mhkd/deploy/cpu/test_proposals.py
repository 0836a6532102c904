"""The same proposals as Detectron2's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from mhkd.deploy.cpu.proposals import predict_proposals, survivors


def scene(seed, pre, post, min_box_size=0.0, spread=0.5):
    """An RPN's settings and what its head said about two images of 60 x 90 px."""
    rpn = SimpleNamespace(
        pre_nms_topk={False: pre, True: 7},
        post_nms_topk={False: post, True: 3},
        nms_thresh=0.7,
        min_box_size=min_box_size,
        training=False,
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
    )
    rpn._decode_proposals = lambda anchors, deltas: RPN._decode_proposals(rpn, anchors, deltas)
    generator = torch.Generator().manual_seed(seed)
    anchors, logits, deltas = [], [], []
    for count, side in ((300, 8.0), (80, 16.0), (20, 32.0)):
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([90.0, 60.0])
        anchors.append(Boxes(torch.cat((corner - side / 2, corner + side / 2), dim=1)))
        logits.append(torch.randn(2, count, generator=generator))
        deltas.append(spread * torch.randn(2, count, 4, generator=generator))
    return rpn, anchors, logits, deltas, [(60, 90), (60, 90)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("pre", "post"), [(1000, 1000), (100, 20), (30, 60), (250, 1)])
@pytest.mark.parametrize("min_box_size", [0.0, 6.0])
def test_proposals_are_detectron2s(seed, pre, post, min_box_size):
    rpn, *inputs = scene(seed, pre, post, min_box_size)
    for found, expected in zip(predict_proposals(rpn, *inputs), RPN.predict_proposals(rpn, *inputs), strict=True):
        assert 0 < len(found) <= post
        torch.testing.assert_close(found.proposal_boxes.tensor, expected.proposal_boxes.tensor, rtol=0, atol=0)
        torch.testing.assert_close(found.objectness_logits, expected.objectness_logits, rtol=0, atol=0)


def test_numbers_that_are_none_and_boxes_that_are_empty_are_left_out():
    rpn, anchors, logits, deltas, sizes = scene(0, 1000, 1000)
    logits[0][0, :50] = float("nan")
    deltas[1][0, :5] = float("inf")
    logits[2][0] = -float("inf")
    found = predict_proposals(rpn, anchors, logits, deltas, sizes)[0]
    assert len(found)
    assert torch.isfinite(found.objectness_logits).all()
    assert found.proposal_boxes.nonempty().all()
    nothing = predict_proposals(rpn, anchors, [x * float("nan") for x in logits], deltas, sizes)
    assert [len(x) for x in nothing] == [0, 0]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.1, 0.9), st.integers(0, 2**16), st.floats(0.0, 9.0))
def test_any_settings_give_detectron2s_proposals(pre, post, iou, seed, min_box_size):
    rpn, *inputs = scene(seed, pre, post, min_box_size)
    rpn.nms_thresh = iou
    for found, expected in zip(predict_proposals(rpn, *inputs), RPN.predict_proposals(rpn, *inputs), strict=True):
        assert torch.equal(found.proposal_boxes.tensor, expected.proposal_boxes.tensor)
        assert torch.equal(found.objectness_logits, expected.objectness_logits)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 300), st.floats(0.1, 0.9), st.integers(0, 2**32 - 1))
def test_the_survivors_are_those_of_torchvision(count, iou, seed):
    generator = torch.Generator().manual_seed(seed)
    corners, sides = torch.rand(count, 2, generator=generator) * 40, 1 + torch.rand(count, 2, generator=generator) * 30
    boxes, groups = torch.cat((corners, corners + sides), dim=1), torch.randint(0, 3, (count,), generator=generator)
    expected = batched_nms(boxes, -torch.arange(count, dtype=torch.float32), groups, iou)
    assert survivors(boxes, groups, iou).tolist() == expected.tolist()
