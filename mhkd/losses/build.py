"""A feature loss from its name."""

from __future__ import annotations

from mhkd.losses import fgd, mgd
from mhkd.losses.feature import FeatureLoss
from mhkd.losses.registry import FEATURE_LOSSES

__all__ = ["build_feature_loss", "fgd", "mgd"]  # the two modules register their losses


def build_feature_loss(
    name: str, channels: int, *, foreground_only: bool = False, cwd_temperature: float = 1.0
) -> FeatureLoss:
    """The loss ``name`` of FEATURE_LOSSES for one pyramid level of ``channels`` channels.

    Raises:
        UserError: an unknown name, or an option that the loss cannot follow.
    """
    options = {"temperature": cwd_temperature} if name == "cwd" else {}
    return FEATURE_LOSSES.get(name)(channels, foreground_only=foreground_only, **options)
