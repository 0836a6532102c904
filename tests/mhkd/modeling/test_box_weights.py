from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from mhkd.modeling.box_weights import weights_of
from tests.mhkd.modeling.pairs import distiller, pair
from tests.mhkd.modeling.test_ignored import KINDS, MakeCfg, detector

BOXES = [[20.0, 20, 60, 70], [80.0, 60, 120, 110]]


def weighed(*weights: float) -> dict[str, Any]:
    item = pair(BOXES, side=128)
    item["image"] = torch.arange(3 * 128 * 128).reshape(3, 128, 128).mul(7919).remainder(255).to(torch.uint8)
    if weights:
        item["instances"].gt_weights = torch.tensor(weights)
    return item


def gradients(model: Any, batch: list[dict[str, Any]]) -> torch.Tensor:
    model = copy.deepcopy(model)  # of RetinaNet and FCOS: with the same normaliser
    torch.manual_seed(1)  # the sampling
    with EventStorage(0):
        sum(model(batch).values()).backward()
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_object_counts_by_its_weight_in_every_detector(tiny_cfg: MakeCfg, kind: str) -> None:
    """Gradients are linear in the weights; in the batch is an image whose objects have none, and one without any."""
    model = detector(tiny_cfg, kind)
    empty = pair([], side=128)
    none, one, half, nothing = (
        gradients(model, [weighed(*weights), empty | {"image": weighed()["image"]}])
        for weights in ((), (1.0, 1.0), (0.5, 0.5), (0.0, 0.0))
    )
    assert torch.linalg.norm(one - nothing) > 1e-2 * torch.linalg.norm(one)
    assert torch.linalg.norm(one - none) < 1e-4 * torch.linalg.norm(one - nothing)
    assert torch.linalg.norm(half - (one + nothing) / 2) < 1e-4 * torch.linalg.norm(one - nothing)
    first, second = (gradients(model, [weighed(*weights), weighed()]) for weights in ((1.0, 0.0), (0.0, 1.0)))
    assert torch.linalg.norm(first - second) > 1e-3 * torch.linalg.norm(first)


def test_a_location_has_the_weight_of_its_own_object() -> None:
    instances = Instances((128, 128), gt_boxes=Boxes(torch.tensor(BOXES)), gt_weights=torch.tensor([0.25, 0.75]))
    boxes = torch.tensor([BOXES[1], BOXES[0], BOXES[1]])
    assert weights_of(boxes, torch.tensor([True, True, False]), instances).tolist() == [0.75, 0.25, 1.0]
    plain = Instances((128, 128), gt_boxes=Boxes(torch.tensor(BOXES)))
    assert weights_of(boxes, torch.tensor([True, True, False]), plain).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("folder", ["demo", "retinanet", "fcos"])
def test_a_distiller_learns_from_images_with_and_without_weights(tiny_cfg: MakeCfg, folder: str) -> None:
    trainable = ("roi_heads",) if folder == "demo" else ()
    model = distiller(tiny_cfg, kinds=(folder, folder), trainable=trainable)
    batch = [pair([[2.0, 2, 26, 28]]), pair([[4.0, 4, 20, 28]])]
    batch[0]["instances"].gt_weights = torch.tensor([0.5])
    with EventStorage(0):
        losses = model(batch)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
