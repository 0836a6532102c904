"""The optimiser, with a slower rate for a teacher that learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params
from torch import Tensor, nn

from preprocess.base.errors import UserError


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
    # In one kernel over all weights, but for fp16: there a fused optimiser takes gradients that are still scaled, and
    # clipping would come too early.
    adamw = {"fused": cfg.MODEL.MHKD.PRECISION != "float16"}
    kinds: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
        "sgd": (torch.optim.SGD, {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV, "foreach": True}),
        "adamw": (torch.optim.AdamW, adamw),
    }
    if solver.OPTIMIZER not in kinds:
        raise UserError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}", remedy='use "sgd" or "adamw"')
    kind, options = kinds[solver.OPTIMIZER]
    optimizer = kind(groups, lr=solver.BASE_LR, **options)
    clipping = solver.CLIP_GRADIENTS
    if clipping.ENABLED:
        clips: dict[str, Callable[..., Any]] = {
            "norm": partial(clip_norms, norm_type=clipping.NORM_TYPE),
            "value": nn.utils.clip_grad_value_,
        }
        if clipping.CLIP_TYPE not in clips:
            raise UserError(
                f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clipping.CLIP_TYPE!r}", remedy='use "norm" or "value"'
            )

        def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            weights = [p for group in optimizer.param_groups for p in group["params"]]
            clips[clipping.CLIP_TYPE](weights, clipping.CLIP_VALUE)

        optimizer.register_step_pre_hook(before_step)
    return optimizer


def clip_norms(parameters: Iterable[Tensor], max_norm: float, norm_type: float) -> None:
    """Scale the gradient of each parameter on its own down to ``max_norm``, as Detectron2's clipping does.

    All of them at once: one by one they take as long as a step of the optimiser.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    norms = torch.stack(torch._foreach_norm(gradients, norm_type))
    torch._foreach_mul_(gradients, list((max_norm / (norms + 1e-6)).clamp(max=1.0).unbind()))


def _rate_factor(name: str, teacher: float) -> float:
    return teacher if name.startswith("teacher.") else 1.0
