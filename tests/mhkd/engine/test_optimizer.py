from __future__ import annotations

import pytest
import torch
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from mhkd.config import mhkd_cfg
from mhkd.engine.optimizer import build_optimizer
from preprocess.base.errors import UserError


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_teacher_learns_more_slowly_and_frozen_weights_not_at_all(kind: str) -> None:
    model = nn.ModuleDict({"student": nn.Linear(2, 2), "teacher": nn.Linear(2, 2)})
    model["teacher"].bias.requires_grad_(False)
    cfg = mhkd_cfg()
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.MODEL.MHKD.TEACHER.LR_FACTOR = kind, 0.2, 0.1
    optimizer = build_optimizer(cfg, model)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(model["student"].weight)] == rates[id(model["student"].bias)] == 0.2
    assert rates[id(model["teacher"].weight)] == pytest.approx(0.02)
    assert id(model["teacher"].bias) not in rates
    assert isinstance(optimizer, torch.optim.SGD if kind == "sgd" else torch.optim.AdamW)


def test_an_unknown_optimizer_is_refused() -> None:
    cfg = mhkd_cfg()
    cfg.SOLVER.OPTIMIZER = "lion"
    with pytest.raises(UserError, match=r"'lion'.*adamw"):
        build_optimizer(cfg, nn.Linear(1, 1))


@pytest.mark.parametrize(("clip_type", "optimizer"), [("norm", "adamw"), ("norm", "sgd"), ("value", "sgd")])
def test_it_steps_as_detectron2s_clipping_around_torchs_plain_optimizer_does(clip_type: str, optimizer: str) -> None:
    cfg = mhkd_cfg()
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = optimizer, 0.1, 0.01
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED, cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = True, clip_type
    layers = [nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    plain, options = {
        "adamw": (torch.optim.AdamW, {"weight_decay": 0.01, "foreach": False}),
        "sgd": (torch.optim.SGD, {"weight_decay": 0.01, "momentum": 0.9}),
    }[optimizer]
    expected = maybe_add_gradient_clipping(cfg, plain)(layers[1].parameters(), lr=0.1, **options)
    found = build_optimizer(cfg, layers[0])
    for scale in (100.0, 1e-3, 1.0):  # far above and far below the limit of 1
        images = torch.randn(2, 3, 9, 9)
        for layer, stepper in zip(layers, (found, expected), strict=True):
            stepper.zero_grad()
            (scale * layer(images) ** 2).sum().backward()
            stepper.step()
    for ours, theirs in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
