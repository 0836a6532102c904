from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from mhkd.modeling.box_stages import run_stages, stage_losses
from tests.mhkd.modeling.pairs import CASCADE, pair


@pytest.mark.parametrize("kind", [(), CASCADE], ids=["faster", "cascade"])
def test_step_by_step_is_what_detectron2_computes(tiny_cfg: Callable[..., CfgNode], kind: tuple[object, ...]) -> None:
    torch.manual_seed(0)
    model = build_model(tiny_cfg("teacher", *kind, "MODEL.MHKD.PRECISION", "float32")).train()
    features = {f"p{i}": torch.randn(2, 32, 128 // 2**i, 128 // 2**i, requires_grad=True) for i in (3, 4, 5)}
    targets = [item["instances"] for item in (pair([[10.0, 20, 60, 70]], side=128), pair([], side=128))]
    proposals = []
    for _ in targets:
        corners = torch.rand(40, 2) * 80
        boxes = Boxes(torch.cat([corners, corners + 10 + torch.rand(40, 2) * 38], dim=1))
        proposals.append(Instances((128, 128), proposal_boxes=boxes, objectness_logits=torch.zeros(40)))

    found = []
    for step_by_step in (False, True):
        torch.manual_seed(1)  # the sampling of RoIs
        with EventStorage(0):
            if step_by_step:
                stages = run_stages(model.roi_heads, features, proposals, targets)
                losses = stage_losses(model.roi_heads, stages)
            else:
                _, losses = model.roi_heads(None, features, proposals, targets)
        gradient = torch.autograd.grad(sum(losses.values()), features["p3"])[0]
        found.append((losses, gradient))
    (expected, expected_gradient), (losses, gradient) = found
    assert set(losses) == set(expected)
    assert all(torch.equal(losses[k], expected[k]) for k in expected)
    torch.testing.assert_close(gradient, expected_gradient)
    assert len(stages) == (3 if kind else 1)
