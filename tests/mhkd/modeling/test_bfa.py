from __future__ import annotations

import torch

from mhkd.modeling.bfa import BFA, PyramidBFA


def test_a_new_bfa_is_the_identity_at_odd_sizes() -> None:
    features = torch.randn(2, 8, 5, 7)
    assert torch.equal(BFA(8, bottleneck=4)(features), features)


def test_only_named_levels_are_adapted() -> None:
    pyramid = PyramidBFA({"p3": 8}, bottleneck=4)
    torch.nn.init.ones_(pyramid["p3"].residual[-1].bias)
    features = {"p3": torch.zeros(1, 8, 3, 3), "p4": torch.zeros(1, 8, 2, 2)}
    adapted = pyramid(features)
    assert adapted["p3"].mean().item() == 1.0
    assert adapted["p4"] is features["p4"]
