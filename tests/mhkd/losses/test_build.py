from __future__ import annotations

import pytest

from mhkd.losses.build import FEATURE_LOSSES, build_feature_loss
from mhkd.losses.feature import CWD
from preprocess.base.errors import UserError


def test_an_unknown_loss_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"unknown feature loss 'dkd'.*pkd, mse, cwd, fgd, mgd"):
        build_feature_loss("dkd", 4)


def test_the_temperature_reaches_cwd_and_no_other() -> None:
    loss = build_feature_loss("cwd", 4, cwd_temperature=3.0)
    assert isinstance(loss, CWD)
    assert loss.temperature == 3.0
    for name in FEATURE_LOSSES:
        build_feature_loss(name, 4, cwd_temperature=3.0)
