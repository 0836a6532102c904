from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from mhkd.config import mhkd_cfg
from mhkd.engine.run_config import UNREAD_KEYS, fit_to_data, leaves
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest

MakeCfg = Callable[..., CfgNode]


@pytest.mark.parametrize("length", [1, 2, 4, 300])
def test_the_schedule_is_in_shares_of_the_run(tiny_cfg: MakeCfg, tile_pairs: Path, length: int) -> None:
    solver = fit_to_data(tiny_cfg("teacher", "SOLVER.MAX_ITER", length), Manifest.read(tile_pairs)).SOLVER
    assert all(0 < step < length for step in solver.STEPS)
    if length == 300:
        assert (solver.STEPS, solver.WARMUP_ITERS) == ((210, 270), 30)


def test_classes_and_scale_factor_are_those_of_the_tiles(tiny_cfg: MakeCfg, tile_pairs: Path) -> None:
    manifest = Manifest.read(tile_pairs)
    cfg = fit_to_data(tiny_cfg("distill"), manifest)
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.MHKD.SCALE_FACTOR) == (1, 4)
    with pytest.raises(UserError, match="SCALE_FACTOR is 2, and that of the tiles 4"):
        fit_to_data(tiny_cfg("distill", "MODEL.MHKD.SCALE_FACTOR", 2), manifest)
    manifest.student_mpp = 7.0
    with pytest.raises(UserError, match=r"differ by a factor of 3\.5"):
        fit_to_data(tiny_cfg("distill"), manifest)


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("DATASETS.TRAIN", ("coco_2017_train",), "DATASETS.TILES"),
        ("INPUT.MIN_SIZE_TRAIN", (640,), "--tile-px"),
        ("INPUT.FORMAT", "BGR", "leave it out"),
        ("INPUT.CROP.ENABLED", True, "ZOOM_JITTER"),
        ("SOLVER.STEPS", (100,), r"SOLVER\.DECAY_AT"),
        ("SOLVER.WARMUP_ITERS", 10, r"SOLVER\.WARMUP_SHARE"),
        ("TEST.AUG.ENABLED", True, "leave it out"),
    ],
)
def test_a_key_that_nothing_reads_is_refused_with_what_to_set(
    tiny_cfg: MakeCfg, tile_pairs: Path, key: str, value: object, remedy: str
) -> None:
    with pytest.raises(UserError, match=rf"{key} is .*nothing reads it.*{remedy}"):
        fit_to_data(tiny_cfg("teacher", key, value), Manifest.read(tile_pairs))


def test_the_keys_that_nothing_reads_exist() -> None:
    known = dict(leaves(mhkd_cfg()))
    assert all(any(key == name or key.startswith(f"{name}.") for key in known) for name in UNREAD_KEYS)
