from __future__ import annotations

import pytest
import torch

from mhkd.config import mhkd_cfg
from mhkd.modeling.backbones import TimmBackbone, build_timm_fpn_backbone
from preprocess.base.errors import UserError

NAME = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def packaged() -> TimmBackbone:
    return TimmBackbone(NAME, pretrained="packaged", freeze_at=2)


def test_strides_and_channels_are_those_stated(packaged: TimmBackbone) -> None:
    features = packaged(torch.zeros(1, 3, 64, 96))
    assert {k: tuple(v.shape) for k, v in features.items()} == {
        "res2": (1, 24, 16, 24),
        "res3": (1, 40, 8, 12),
        "res4": (1, 112, 4, 6),
        "res5": (1, 320, 2, 3),
    }
    shapes = packaged.output_shape()
    assert {k: (s.channels, s.stride) for k, s in shapes.items()} == {
        "res2": (24, 4),
        "res3": (40, 8),
        "res4": (112, 16),
        "res5": (320, 32),
    }


def test_packaged_weights_tell_more_than_chance(packaged: TimmBackbone) -> None:
    """Weights zipped to the wrong layers would leave the deep features dead or exploding."""
    ramp = torch.linspace(-1, 1, 128).expand(1, 3, 128, 128)
    deep = packaged.eval()(ramp)["res5"]
    assert 0.1 < deep.std().item() < 10
    assert not torch.equal(
        packaged.state_dict()["network.conv_stem.weight"], TimmBackbone(NAME).network.conv_stem.weight
    )


def test_frozen_stages_and_batch_norms_do_not_train(packaged: TimmBackbone) -> None:
    packaged.train()
    trained = {name for name, p in packaged.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("network.conv_stem", "network.blocks.0", "network.blocks.1.")) for name in trained)
    assert any(name.startswith("network.blocks.2.") for name in trained)
    assert not any("bn" in name for name in trained)
    before = {k: v.clone() for k, v in packaged.state_dict().items()}
    packaged(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in packaged.state_dict().items())


def test_the_norms_that_cannot_be_folded_are_frozen_as_well() -> None:
    backbone = TimmBackbone("resnetv2_18").train()
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert not any(m.training for m in norms)


def test_a_pyramid_may_end_before_the_last_stage() -> None:
    cfg = mhkd_cfg()
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3"]
    levels = build_timm_fpn_backbone(cfg, None)(torch.zeros(1, 3, 64, 64))
    assert {level: features.shape[-1] for level, features in levels.items()} == {"p2": 16, "p3": 8, "p4": 4}


def test_unusable_settings_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no usable model 'no_such_net'.*list_models"):
        TimmBackbone("no_such_net")
    with pytest.raises(UserError, match="no package carries weights of 'resnet18'"):
        TimmBackbone("resnet18", pretrained="packaged")
    with pytest.raises(UserError, match="PRETRAINED is 'yes'"):
        TimmBackbone(NAME, pretrained="yes")
