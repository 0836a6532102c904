"""The optimiser, with a slower rate for a teacher that learns."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

from preprocess.errors import UserError


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SOLVER.OPTIMIZER over the parameters of ``model`` that want a gradient, with Detectron2's clipping.

    Parameters called ``teacher.*`` get MODEL.MHKD.TEACHER.LR_FACTOR times the rate.

    Raises:
        UserError: an optimiser that is neither "sgd" nor "adamw".
    """
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        lr_factor_func=partial(_rate_factor, teacher=cfg.MODEL.MHKD.TEACHER.LR_FACTOR),
    )
    kinds: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
        "sgd": (torch.optim.SGD, {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV, "foreach": True}),
        "adamw": (torch.optim.AdamW, {}),
    }
    if solver.OPTIMIZER not in kinds:
        raise UserError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}", remedy='use "sgd" or "adamw"')
    kind, options = kinds[solver.OPTIMIZER]
    return maybe_add_gradient_clipping(cfg, kind)(groups, lr=solver.BASE_LR, **options)


def _rate_factor(name: str, teacher: float) -> float:
    return teacher if name.startswith("teacher.") else 1.0
