from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.config import CfgNode

from mhkd.config import mhkd_cfg
from mhkd.engine.initialisation import resolve_init
from preprocess.base.errors import UserError

ZOO = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"


def cfg_with(init: str, *, weights: str = "", teacher: str = "", pretrained: str = "packaged") -> CfgNode:
    cfg = mhkd_cfg()
    cfg.MODEL.MHKD.INIT, cfg.MODEL.WEIGHTS, cfg.MODEL.MHKD.TEACHER.WEIGHTS = init, weights, teacher
    cfg.MODEL.TIMM.PRETRAINED = pretrained
    cfg.freeze()
    return cfg


@pytest.mark.parametrize(
    ("cfg", "weights", "pretrained"),
    [
        (cfg_with("weights", weights="step1.pth"), "step1.pth", "packaged"),
        (cfg_with("teacher", teacher="t.pth"), "t.pth", "packaged"),
        (cfg_with("teacher", teacher="t.pth", weights="./t.pth"), "t.pth", "packaged"),
        (cfg_with("teacher", teacher="t.pth", weights=ZOO), "t.pth", "packaged"),
        (cfg_with("imagenet"), "", "packaged"),
        (cfg_with("imagenet", weights=ZOO, pretrained="none"), ZOO, "none"),
        (cfg_with("none", weights=ZOO), "", "none"),
    ],
)
def test_the_choice_names_the_weights(cfg: CfgNode, weights: str, pretrained: str) -> None:
    resolved = resolve_init(cfg)
    assert (weights, pretrained) == (resolved.MODEL.WEIGHTS, resolved.MODEL.TIMM.PRETRAINED)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (cfg_with("random"), r"INIT is 'random'.*weights, teacher, imagenet, none"),
        (cfg_with("none", weights="step1.pth"), r"step1\.pth.*INIT none contradicts"),
        (cfg_with("imagenet", weights="step1.pth"), "INIT imagenet contradicts"),
        (cfg_with("teacher", teacher="t.pth", weights="step1.pth"), "INIT teacher contradicts"),
        (cfg_with("teacher"), "there is none.*--teacher"),
        (cfg_with("imagenet", pretrained="none"), "no such weights are named"),
    ],
)
def test_contradictions_are_refused(cfg: CfgNode, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_init(cfg)


def test_a_whole_detector_is_no_backbone(tmp_path: Path) -> None:
    assert resolve_init(cfg_with("weights", weights=str(tmp_path / "x.pth"))).MODEL.WEIGHTS.endswith("x.pth")
