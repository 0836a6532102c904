"""The feature losses by name."""

from __future__ import annotations

from mhkd.losses.feature import CWD, MSE, PKD, FeatureLoss
from mhkd.losses.fgd import FGD
from mhkd.losses.mgd import MGD
from preprocess.base.errors import UserError

FEATURE_LOSSES: dict[str, type[FeatureLoss]] = {"pkd": PKD, "mse": MSE, "cwd": CWD, "fgd": FGD, "mgd": MGD}


def build_feature_loss(
    name: str, channels: int, *, foreground_only: bool = False, cwd_temperature: float = 1.0
) -> FeatureLoss:
    """The loss ``name`` for one pyramid level of ``channels`` channels.

    Raises:
        UserError: an unknown name, or an option that the loss cannot follow.
    """
    if name not in FEATURE_LOSSES:
        raise UserError(f"unknown feature loss {name!r}", remedy=f"use one of {', '.join(FEATURE_LOSSES)}")
    options = {"temperature": cwd_temperature} if name == "cwd" else {}
    return FEATURE_LOSSES[name](channels, foreground_only=foreground_only, **options)
