"""The one switch for what is there only because it makes a CPU faster."""

from __future__ import annotations

import os

from torch import nn

from mhkd.deploy.cpu.frozen_norm import fold_frozen_norms
from mhkd.deploy.cpu.roi_pooling import pool_channels_last
from mhkd.modeling.backbones import TimmBackbone

SWITCH = "MHKD_CPU_OPERATORS"
"""This environment variable set to "off" leaves Detectron2's and timm's own operators in place."""


def are_wanted(device: str) -> bool:
    """Whether a model on ``device`` ("cpu", "cuda:0", ...) is to get the operators of this room."""
    return device.partition(":")[0] == "cpu" and os.environ.get(SWITCH) != "off"


def use_cpu_operators(model: nn.Module, device: str) -> None:
    """Give every detector inside ``model`` the operators that are faster on a CPU, in place.

    They compute what Detectron2's and timm's compute, but for the last digits of float32, for training and inference
    alike; names and shapes of weights stay, so that checkpoints are the same. What only a trained detector can have is
    :func:`mhkd.deploy.cpu.compiled.freeze_convolutions`.

    Args:
        device: that ``model`` will run on; on any but a CPU nothing is changed.
    """
    if not are_wanted(device):
        return
    pool_channels_last(model)
    for module in list(model.modules()):
        if isinstance(module, TimmBackbone):
            fold_frozen_norms(module.network)
