from __future__ import annotations

import pytest
import torch
from torch import nn

from mhkd.config import mhkd_cfg
from mhkd.engine.optimizer import build_optimizer
from preprocess.errors import UserError


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
