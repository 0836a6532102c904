from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mhkd.config import PhaseSchedule, read_config
from mhkd.modeling.detectors import build_student
from tests.mhkd.modeling.pairs import pair

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
NAMES = ("teacher", "baseline_strict", "distill")
NETWORKS = [path for name in NAMES for path in sorted(CONFIGS.glob(f"*/{name}.yaml"))]


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_trainable_parameter_of_every_configuration_gets_a_gradient(path: Path) -> None:
    """So that distributed training need not look for those that do not."""
    cfg = read_config(path, ["MODEL.DEVICE", "cpu", "MODEL.TIMM.PRETRAINED", "none", "MODEL.MHKD.PRECISION", "float32"])
    cfg.MODEL.MHKD.BFA.ENABLED = PhaseSchedule.from_config(cfg).has_bfa
    torch.manual_seed(0)
    model: Any = (build_student if cfg.MODEL.META_ARCHITECTURE == "MHKD" else build_model)(cfg).train()
    assert ("bfa" in {name.split(".")[0] for name, _ in model.named_parameters()}) == cfg.MODEL.MHKD.BFA.ENABLED
    side = 128 // cfg.MODEL.MHKD.UPSAMPLE
    with EventStorage(0):
        losses = model([pair([[2.0, 2, 0.8 * side, 0.8 * side]], side=side)])
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
