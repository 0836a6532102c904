"""A tiny tile-pair data set and a tiny distillation configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from detectron2.config import CfgNode

from mhkd.config import read_config
from mhkd.engine.train import run_training
from preprocess.tiles.manifest import BOXES_COLUMNS, TILES_COLUMNS, Manifest

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo"
TINY = {
    "MODEL.TIMM.PRETRAINED": "none",
    "MODEL.DEVICE": "cpu",
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.MHKD.BFA.BOTTLENECK": 8,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 4,
    "SOLVER.CHECKPOINT_PERIOD": 1,
}


@pytest.fixture(scope="session")
def tile_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training pairs of 128 and 32 px with one dark disc each, the last without any; a seventh to validate on."""
    root = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    tiles, boxes = [], []
    for i in range(7):
        image = np.clip(rng.normal((220, 170, 200), 10, (128, 128, 3)), 0, 255).astype(np.uint8)
        if i != 5:
            x, y, radius = (int(v) for v in rng.integers((35, 35, 18), (93, 93, 30)))
            cv2.circle(image, (x, y), radius, (140, 60, 130), -1)
            corners = [float(v * 4) for v in (x - radius, y - radius, x + radius, y + radius)]
            boxes.append((f"t{i}", "Glomerulus", *corners, 1.0, False))
        files = f"teacher_{i}.png", f"student_{i}.png"
        small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
        for file, pixels in zip(files, (image, small), strict=True):
            cv2.imwrite(str(root / file), pixels[..., ::-1])
        tiles.append(
            (
                f"t{i}",
                "s",
                "s.svs",
                "p",
                "val" if i == 6 else "train",
                True,
                0.0,
                0.0,
                512.0,
                512.0,
                0.5,
                1.0,
                *tuple(x for file, side in zip(files, (128, 32), strict=True) for x in (file, side, side)),
                int(i != 5),
            )
        )
    Manifest(
        root=root,
        tiles=pd.DataFrame(tiles, columns=list(TILES_COLUMNS)),
        boxes=pd.DataFrame(boxes, columns=list(BOXES_COLUMNS)),
        labels=["Glomerulus"],
        teacher_mpp=2.0,
        student_mpp=8.0,
    ).write(root)
    return root


def make_tiny(tiles: Path, folder: Path) -> Callable[..., CfgNode]:
    def make(name: str, *overrides: object) -> CfgNode:
        settings = [x for item in TINY.items() for x in item]
        where = ["DATASETS.TILES", str(tiles), "OUTPUT_DIR", str(folder / name), "SEED", 3]
        cfg = read_config((DEMO.parent if "/" in name else DEMO) / f"{name}.yaml")
        cfg.merge_from_list([*settings, *where, *overrides])
        return cfg

    return make


@pytest.fixture
def tiny_cfg(tile_pairs: Path, tmp_path: Path) -> Callable[..., CfgNode]:
    """``tiny_cfg("distill", "KEY", value, ...)``: a demo config, or "fcos/distill", made small, on ``tile_pairs``."""
    return make_tiny(tile_pairs, tmp_path)


@pytest.fixture(scope="session")
def teacher(tile_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported detector of a tiny teacher."""
    return run_training(make_tiny(tile_pairs, tmp_path_factory.mktemp("trained"))("teacher"))
