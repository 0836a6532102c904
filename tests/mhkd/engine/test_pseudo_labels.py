from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from mhkd.config import read_config
from mhkd.data.datasets import tile_dicts
from mhkd.data.mapper import TilePairMapper
from mhkd.engine.pseudo_labels import read_training_tiles
from mhkd.engine.train import run_training
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.tiles.manifest import Manifest
from preprocess.tiles.pairs import PairSpec
from preprocess.tiles.pseudo_labels import PseudoLabels
from tests.mhkd.conftest import make_tiny
from tests.mhkd.engine.runs import distil, only

HIDDEN = ("t3", "t4", "t5")  # the last of these has no object


@pytest.fixture
def half(tile_pairs: Path, tmp_path: Path) -> Path:
    """``tile_pairs`` of which three pairs are of a slide "u" that nobody annotated."""
    root = tmp_path / "half"
    shutil.copytree(tile_pairs, root)
    manifest = Manifest.read(root)
    hidden = manifest.tiles["tile_id"].isin(HIDDEN)
    tiles = manifest.tiles.assign(labelled=~hidden, slide=manifest.tiles["slide"].mask(hidden, "u"))
    boxes = manifest.boxes[~manifest.boxes["tile_id"].isin(HIDDEN)].reset_index(drop=True)
    parameters = asdict(PairSpec(teacher_mpp=2.0, student_mpp=8.0, tile_px=128)) | {"classes": {}}
    replace(manifest, tiles=tiles, boxes=boxes, provenance={"parameters": parameters}).write(root)
    return root


def write_labels(folder: Path, teacher: Path, score: float = 0.8) -> Path:
    boxes = [("Glomerulus", (100.0, 100.0, 300.0, 300.0), score)]
    thresholds = {"origin": "given", "precision": None}
    PseudoLabels(folder, {"u": boxes}, sha256_of(teacher), 0.6, 0.2, {"thresholds": thresholds}).write()
    return folder


@pytest.fixture
def labels(tmp_path: Path, teacher: Path) -> Path:
    return write_labels(tmp_path / "labels", teacher)


def test_a_teacher_is_trained_on_annotated_pairs_alone(half: Path, tmp_path: Path) -> None:
    cfg = make_tiny(half, tmp_path)("teacher")
    assert {tile["tile_id"] for tile in tile_dicts(read_training_tiles(cfg), "train", "teacher")} == {"t0", "t1", "t2"}


def test_a_student_learns_from_both_by_their_scores(half: Path, tmp_path: Path, teacher: Path, labels: Path) -> None:
    cfg = make_tiny(half, tmp_path)(
        "distill", "DATASETS.PSEUDO_LABELS", str(labels), "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher)
    )
    tiles = {tile["tile_id"]: tile for tile in tile_dicts(read_training_tiles(cfg), "train", "student")}
    assert set(HIDDEN) < set(tiles)
    mapper = TilePairMapper(with_teacher=True, color_jitter=0.0)
    found = {name: mapper(tiles[name], np.random.default_rng(0))["instances"] for name in ("t0", "t3")}
    assert {name: instances.gt_weights.tolist() for name, instances in found.items()} == {
        "t0": [1.0],
        "t3": pytest.approx([0.8]),
    }


def test_the_record_states_labels_and_another_run_is_not_mixed_in(
    half: Path, tmp_path: Path, teacher: Path, labels: Path
) -> None:
    tiny = make_tiny(half, tmp_path)
    overrides = ("DATASETS.PSEUDO_LABELS", str(labels), *only("semantic"), "SOLVER.MAX_ITER", 2)
    made = distil(tiny, teacher, *overrides)
    record = json.loads((made.parent / "run.json").read_text())
    assert record["pseudo_labels"]["model_sha256"] == sha256_of(teacher)
    assert (record["pseudo_labels"]["sure_thresh"], record["pseudo_labels"]["num_slides"]) == (0.6, 1)
    assert record["files"]["pseudo_labels"] == sha256_of(labels / "labels.json")
    write_labels(labels, teacher, score=0.7)
    with pytest.raises(UserError, match="holds a run with other pseudo labels"):
        distil(tiny, teacher, *overrides)


def test_labels_of_another_teacher_are_refused(half: Path, tmp_path: Path, teacher: Path) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"another teacher")
    stale = write_labels(tmp_path / "stale", other)
    with pytest.raises(UserError, match=r"stale: made by another detector than the teacher .*make pseudo-labels"):
        distil(make_tiny(half, tmp_path), teacher, "DATASETS.PSEUDO_LABELS", str(stale))
    # Self-training: without a teacher beside it, a detector may learn from any other's labels.
    cfg = make_tiny(half, tmp_path)("baseline_strict", "DATASETS.PSEUDO_LABELS", str(stale))
    assert read_training_tiles(cfg).has_pseudo_labels


@pytest.mark.parametrize("name", ["baseline_strict", "fcos/baseline_strict", "retinanet/baseline_strict"])
def test_every_detector_trains_on_them(half: Path, tmp_path: Path, labels: Path, name: str) -> None:
    cfg = make_tiny(half, tmp_path)(name, "DATASETS.PSEUDO_LABELS", str(labels), "SOLVER.MAX_ITER", 2)
    assert run_training(cfg).is_file()


def test_labels_that_do_not_fit_are_one_line(half: Path, tmp_path: Path, labels: Path) -> None:
    for overrides, reason in [
        (("DATALOADER.UNLABELLED_SHARE", 1.5), r"UNLABELLED_SHARE is 1\.5"),
        (("DATASETS.PSEUDO_LABELS", str(tmp_path / "nothing")), "no such labels"),
    ]:
        given = ("DATASETS.PSEUDO_LABELS", str(labels), *overrides)
        with pytest.raises(UserError, match=reason):
            run_training(make_tiny(half, tmp_path)("baseline_strict", *given))


def test_a_set_without_such_slides_is_as_before(tile_pairs: Path, tmp_path: Path, labels: Path) -> None:
    cfg = make_tiny(tile_pairs, tmp_path)("teacher", "DATASETS.PSEUDO_LABELS", str(labels))
    assert not read_training_tiles(cfg).has_pseudo_labels
    assert read_config("configs/demo/teacher.yaml").DATASETS.PSEUDO_LABELS == ""
