from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from torch import nn

from mhkd.modeling import precision
from preprocess.base.errors import UserError
from tests.mhkd.modeling.pairs import CASCADE, pair


@pytest.mark.parametrize(("amx", "avx512", "native"), [(True, False, True), (False, True, True), (False, False, False)])
def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, native: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert precision.resolve_precision("auto", "cpu") is (torch.bfloat16 if native else torch.float32)
    assert precision.resolve_precision("bfloat16", "cpu") is torch.bfloat16
    assert precision.resolve_precision("float32", "cpu") is torch.float32
    assert precision.resolve_precision("float16", "cuda") is torch.float16


@pytest.mark.parametrize(
    ("setting", "message"), [("yes", "use one of auto, float32"), ("float16", "float16 is for GPUs")]
)
def test_a_setting_that_cannot_be_is_refused(setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        precision.resolve_precision(setting, "cpu")


def test_autocast_computes_in_bfloat16_only_where_enabled() -> None:
    a = torch.ones(2, 2)
    for dtype in (torch.bfloat16, torch.float32):
        with precision.autocast(torch.device("cpu"), dtype):
            assert (a @ a).dtype == dtype


def test_last_layers_keep_parameters_and_names_and_compute_the_same() -> None:
    head = StandardRPNHead(in_channels=8, num_anchors=2)
    before, x = dict(head.named_parameters()), [torch.randn(1, 8, 4, 4)]
    state, expected = torch.get_rng_state(), head(x)
    precision.keep_last_layers_in_float32(head)
    assert torch.equal(torch.get_rng_state(), state)
    after = dict(head.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(head(x), expected, strict=True))
    layer = head.objectness_logits
    precision.keep_last_layers_in_float32(head)
    assert head.objectness_logits is layer
    assert type(head.conv) is not precision.Float32Conv2d


def test_a_layer_without_a_bias_and_with_a_stride_stays_that() -> None:
    parent = nn.ModuleDict({"cls_score": nn.Conv2d(4, 2, 3, stride=2, padding=1, groups=2, bias=False)})
    x = torch.randn(1, 4, 7, 7)
    expected = parent["cls_score"](x)
    precision.keep_last_layers_in_float32(parent)
    assert torch.equal(parent["cls_score"](x), expected)


@pytest.mark.parametrize("kind", [(), CASCADE], ids=["faster", "cascade"])
def test_scores_of_two_stage_detectors_do_not_tie_in_bfloat16(
    tiny_cfg: Callable[..., CfgNode], kind: tuple[object, ...]
) -> None:
    """Of the RPN and of the box heads: as many scores as there are boxes, and float32."""
    torch.manual_seed(0)
    cfg = tiny_cfg("teacher", *kind, "MODEL.MHKD.PRECISION", "bfloat16", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    model: Any = build_model(cfg).eval()
    with torch.no_grad(), model.autocast():
        images = model.preprocess_image([pair([], side=128)])
        features = model.features(images)
        proposals, _ = model.proposal_generator(images, features, None)
        found = model.roi_heads(images, features, proposals, None)[0][0]
    assert len(found) > 20
    for scores in (proposals[0].objectness_logits, found.scores):
        assert scores.dtype == torch.float32
        assert len(torch.unique(scores)) > 0.95 * len(scores)
