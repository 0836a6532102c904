from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from mhkd.modeling.pairing import as_teacher
from preprocess.base.errors import UserError

MakeCfg = Callable[..., CfgNode]


def test_only_the_box_branch_can_be_freed(tiny_cfg: MakeCfg) -> None:
    detector = build_model(tiny_cfg("teacher"))
    assert not any(p.requires_grad for p in as_teacher(detector).parameters())
    free = {name for name, p in as_teacher(detector, ("roi_heads",)).named_parameters() if p.requires_grad}
    assert {name.split(".")[2] for name in free} == {"box_head", "box_predictor"}
    with pytest.raises(UserError, match=r"TRAINABLE names backbone.*always stays frozen"):
        as_teacher(detector, ("backbone",))


@pytest.mark.parametrize("trainable", [(), ("roi_heads",)])
def test_its_head_passes_a_gradient_through_and_leaves_none(tiny_cfg: MakeCfg, trainable: tuple[str, ...]) -> None:
    teacher = as_teacher(build_model(tiny_cfg("teacher")), trainable)
    pooled = torch.randn(2, 32, 7, 7, requires_grad=True)
    crossed, predicted = teacher.apply_head(pooled), teacher.predict(pooled)
    assert all(torch.equal(a, b) for a, b in zip(crossed, predicted, strict=True))
    assert predicted[0].requires_grad == bool(trainable)
    crossed[0].sum().backward()
    assert pooled.grad is not None
    assert all(p.grad is None for p in teacher.parameters())
