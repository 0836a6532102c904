from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mhkd.engine.ema import EMA


def test_the_average_by_hand() -> None:
    """Decay after n steps: min(0.5, 1 - n ** (-2 / 3)) with n counted from 1, as timm derives it from the step."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(lambda: model, 0.5)
    expected = 0.0
    for iteration in range(5):
        with torch.no_grad():
            model.weight += 1.0
        decay = min(0.5, 1 - (1 + iteration) ** (-2 / 3))
        expected = decay * expected + (1 - decay) * model.weight.item()
        ema.trainer = SimpleNamespace(iter=iteration)
        ema.after_step()
        assert ema.average.weight.item() == pytest.approx(expected, rel=1e-6)
    assert not ema.average.training
    assert not ema.average.weight.requires_grad
