"""Real detectors that were not trained: small, with seeded weights, written as training would export them."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.modeling import build_model
from torch import nn

from mhkd.config import read_config
from mhkd.engine.checkpoint import export_detector

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SMALL = {
    "MODEL.TIMM.PRETRAINED": "none",
    "MODEL.DEVICE": "cpu",
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "MODEL.RETINANET.NUM_CLASSES": 1,
    "MODEL.FCOS.NUM_CLASSES": 1,
    "MODEL.MHKD.BFA.BOTTLENECK": 8,
    "MODEL.RETINANET.SCORE_THRESH_TEST": 0.0,
    "MODEL.FCOS.SCORE_THRESH_TEST": 0.0,
}


def write_detector(path: Path, *overrides: object, config: str = "demo/baseline_strict") -> Path:
    """The detector of ``configs/<config>.yaml`` with tiles of 32 px at 8 um/px; it finds something anywhere."""
    cfg = read_config(CONFIGS / f"{config}.yaml")
    cfg.merge_from_list([x for item in SMALL.items() for x in item])
    cfg.merge_from_list(list(overrides))
    torch.manual_seed(0)
    model = build_model(cfg)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:  # as after training: statistics of what comes in
            norm.train()
        model.backbone(torch.randn(2, 3, 128, 128))
        for norm in norms:
            norm.momentum = 1.0
        model.backbone(torch.randn(2, 3, 128, 128))
        for name, parameter in model.named_parameters():
            if name.startswith("bfa.") and name.endswith("6.weight"):  # a BFA is born as the identity
                parameter.normal_(0, 0.1)
    provenance = {"seed": 0}
    export_detector(path, model, cfg, input_mpp=8.0, tile_px=32, class_names=("glomerulus",), provenance=provenance)
    return path
