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
    cfg.MODEL.META_ARCHITECTURE = "UpsampledRCNN"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3"]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4"]
    levels = build_timm_fpn_backbone(cfg, None)(torch.zeros(1, 3, 64, 64))
    assert {level: features.shape[-1] for level, features in levels.items()} == {"p2": 16, "p3": 8, "p4": 4}


@pytest.mark.parametrize("name", [NAME, "resnet18", "convnext_atto"])
def test_stages_that_nobody_reads_are_not_built(name: str) -> None:
    backbone = TimmBackbone(name, last="res4")
    features = backbone(torch.zeros(1, 3, 64, 64))
    assert list(features) == list(backbone.output_shape()) == ["res2", "res3", "res4"]
    sum(feature.sum() for feature in features.values()).backward()
    assert [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []
    whole = TimmBackbone(name).state_dict()
    assert len(backbone.state_dict()) < len(whole)
    assert backbone.state_dict().keys() < whole.keys()


def test_freezing_ends_behind_the_stage_that_is_named() -> None:
    """Also where timm has put the stages side by side under other names."""
    for name, frozen, trained in (("convnext_atto", "stages_1.", "stages_2."), (NAME, "blocks.2.", "blocks.4.")):
        backbone = TimmBackbone(name, freeze_at=3 if name == NAME else 2)
        wanted = {name for name, p in backbone.named_parameters() if p.requires_grad}
        assert not any(name.startswith(f"network.{frozen}") for name in wanted)
        assert any(name.startswith(f"network.{trained}") for name in wanted)


@pytest.mark.parametrize(
    ("architecture", "levels", "pyramid", "outputs"),
    [
        ("UpsampledRCNN", ["p2", "p3"], {"p2", "p3"}, {"2", "3"}),
        ("UpsampledRCNN", ["p3", "p4"], {"p3", "p4", "p5"}, {"3", "4"}),
        ("UpsampledRCNN", ["p2", "p5"], {"p2", "p4", "p5"}, {"2", "4"}),  # p5 is made of p4
        ("MHKD", ["p2", "p3"], {"p2", "p3"}, {"2", "3"}),
        ("OfAUser", ["p2"], {"p2", "p3", "p4", "p5"}, {"2", "3", "4"}),
    ],
)
def test_levels_that_nobody_reads_are_not_built(
    architecture: str, levels: list[str], pyramid: set[str], outputs: set[str]
) -> None:
    cfg = mhkd_cfg()
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4"]
    cfg.MODEL.RPN.IN_FEATURES = levels
    cfg.MODEL.ROI_HEADS.IN_FEATURES = cfg.MODEL.MHKD.FEATURE_LEVELS = levels[:1]
    fpn = build_timm_fpn_backbone(cfg, None).train()
    features = fpn(torch.zeros(1, 3, 64, 64))
    assert set(features) == set(fpn.output_shape()) == pyramid
    names = {name.split(".")[0] for name, _ in fpn.named_parameters()}
    assert {name.removeprefix("fpn_output") for name in names if "output" in name} == outputs
    sum(features[level].sum() for level in features).backward()
    assert [name for name, p in fpn.named_parameters() if p.requires_grad and p.grad is None] == []


def test_what_is_left_of_a_pyramid_computes_as_before() -> None:
    cfg = mhkd_cfg()
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4"]
    cfg.MODEL.META_ARCHITECTURE = "OfAUser"
    whole = build_timm_fpn_backbone(cfg, None)
    cfg.MODEL.META_ARCHITECTURE = "UpsampledRCNN"
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = cfg.MODEL.MHKD.FEATURE_LEVELS = ["p3"]
    part = build_timm_fpn_backbone(cfg, None)
    part.load_state_dict({name: whole.state_dict()[name] for name in part.state_dict()})
    image = torch.randn(1, 3, 64, 96)
    assert torch.equal(part(image)["p3"], whole(image)["p3"])


def test_unusable_settings_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no usable model 'no_such_net'.*list_models"):
        TimmBackbone("no_such_net")
    with pytest.raises(UserError, match="no package carries weights of 'resnet18'"):
        TimmBackbone("resnet18", pretrained="packaged")
    with pytest.raises(UserError, match="PRETRAINED is 'yes'"):
        TimmBackbone(NAME, pretrained="yes")
