from __future__ import annotations

from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from tests.mhkd.modeling.pairs import distiller, pair
from tools.benchmarks.speed import PHASES, Floor, named_phases, take_turns

LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}


def test_the_floor_is_both_networks_and_no_distillation(tiny_cfg: Callable[..., CfgNode]) -> None:
    model = distiller(tiny_cfg)
    seen: list[tuple[torch.Size, bool]] = []
    backbone = model.teacher.detector.backbone
    backbone.register_forward_hook(lambda _, inputs, found: seen.append((inputs[0].shape, found["p3"].requires_grad)))
    with EventStorage():
        losses = Floor(model)([pair([[4, 4, 20, 20]]), pair([])])
    assert set(losses) == LOSSES
    assert seen == [((2, 3, 128, 128), False)]
    sum(losses.values()).backward()
    assert model.student.bfa["p3"].residual[-1].weight.grad is not None


def test_each_named_phase_has_the_losses_of_its_name(tiny_cfg: Callable[..., CfgNode]) -> None:
    phases = dict(named_phases(tiny_cfg("distill"), PHASES))
    assert list(phases) == list(PHASES)
    on = {name: {k for k, weight in cfg.MODEL.MHKD.LOSS_WEIGHTS.items() if weight} for name, cfg in phases.items()}
    assert on["basic"] == on["adaptive-fgd"] == {"FEATURE"}
    assert on["local"] == {"LOCAL"}
    assert on["semantic-iou"] == on["mutual"] == {"LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX"}
    assert on["joint"] == {"FEATURE", *on["semantic"]}
    assert {cfg.MODEL.MHKD.FEATURE_LOSS for cfg in phases.values()} == {"pkd", "mse", "cwd", "fgd", "mgd"}
    assert not phases["basic"].MODEL.MHKD.BFA.ENABLED
    assert phases["adaptive"].MODEL.MHKD.BFA.ENABLED


def test_the_sides_take_turns() -> None:
    calls: list[str] = []
    taken = take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 2, "cpu")
    assert "".join(calls) == "baab" * 2 + "ba"
    assert {name: len(times) for name, times in taken.items()} == {"a": 2, "b": 2}
