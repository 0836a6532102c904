from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mhkd.losses.build import build_feature_loss
from mhkd.losses.feature import CWD, FeatureLoss
from mhkd.losses.registry import FEATURE_LOSSES
from preprocess.base.errors import UserError


def test_a_loss_of_a_users_own_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FEATURE_LOSSES, "_obj_map", dict(FEATURE_LOSSES._obj_map))

    @FEATURE_LOSSES.register("mine")
    class Mine(FeatureLoss):
        def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
            return (student - teacher).sum()

    loss = build_feature_loss("mine", 4)
    assert loss(torch.ones(1, 4, 1, 1), torch.zeros(1, 4, 1, 1), []).item() == 4
    with pytest.raises(AssertionError, match="already registered"):
        FEATURE_LOSSES.register("mine")(Mine)


def test_an_unknown_loss_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"FEATURE_LOSS is 'dkd'.*pkd, mse, cwd, fgd, mgd"):
        build_feature_loss("dkd", 4)


def test_the_temperature_reaches_cwd_and_no_other() -> None:
    loss = build_feature_loss("cwd", 4, cwd_temperature=3.0)
    assert isinstance(loss, CWD)
    assert loss.temperature == 3.0
    for name, _ in FEATURE_LOSSES:
        build_feature_loss(name, 4, cwd_temperature=3.0)
