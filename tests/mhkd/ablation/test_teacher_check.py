from __future__ import annotations

from dataclasses import replace

import pytest

from mhkd.ablation.teacher_check import check_teacher
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.tiles.manifest import Manifest


def test_the_same_training_elsewhere_is_the_same_teacher(tiny_cfg, tile_pairs, teacher, tmp_path):
    """Folders, the device and the network's packaged weights say nothing; nor does the other resolution."""
    other = ("OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cuda", "DATALOADER.NUM_WORKERS", 3)
    manifest = replace(Manifest.read(tile_pairs), student_mpp=16.0)
    check_teacher(teacher, tiny_cfg("teacher", *other), manifest)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("SOLVER.MAX_ITER", 8), r"trained with SOLVER\.MAX_ITER 4 \(here 8\).*--teacher-iterations"),
        (("SEED", 5), r"SEED 3 \(here 5\)"),
        (("SOLVER.BASE_LR", 0.25), r"SOLVER\.BASE_LR 0\.001 \(here 0\.25\).*--teacher-opts"),
        (("MODEL.BACKBONE.FREEZE_AT", 0), r"MODEL\.BACKBONE\.FREEZE_AT 2 \(here 0\)"),
        (("MODEL.MHKD.SELECT", "best", "TEST.EVAL_PERIOD", 1), r"TEST\.EVAL_PERIOD 0 \(here 1\)"),
    ],
)
def test_another_training_is_another_teacher(tiny_cfg, tile_pairs, teacher, overrides, told):
    with pytest.raises(UserError, match=told):
        check_teacher(teacher, tiny_cfg("teacher", *overrides), Manifest.read(tile_pairs))


def test_another_resolution_other_classes_and_another_start_are_another_teacher(tiny_cfg, tile_pairs, teacher):
    manifest, cfg = Manifest.read(tile_pairs), tiny_cfg("teacher")
    with pytest.raises(UserError, match=r"um/px 2\.0 \(here 1\.0\)"):
        check_teacher(teacher, cfg, replace(manifest, teacher_mpp=1.0))
    with pytest.raises(UserError, match=r"classes \['Glomerulus'\] \(here \['tuft'\]\)"):
        check_teacher(teacher, cfg, replace(manifest, labels=["tuft"]))
    with pytest.raises(UserError, match=rf"initial weights None \(here {sha256_of(teacher)}\)"):
        check_teacher(teacher, tiny_cfg("teacher", "MODEL.WEIGHTS", str(teacher)), manifest)
