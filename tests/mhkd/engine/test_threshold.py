from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import nn

from mhkd.deploy.detector_file import load_detector
from mhkd.engine import student_export
from mhkd.engine.checkpoint import store_threshold
from mhkd.engine.threshold import best_thresh, store_thresholds
from mhkd.engine.train import run_training
from mhkd.weights import read_checkpoint
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest


class Recites(nn.Module):
    """Finds these boxes (level-0 pixels of a 512 px tile) in every tile."""

    def __init__(self, *rows: tuple[list[float], float]) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert not self.training
        return [{"instances": self._find(item["image"])} for item in inputs]

    def _find(self, image: torch.Tensor) -> Instances:
        scale = image.shape[2] / 512
        found = Instances(image.shape[1:], pred_boxes=Boxes(torch.tensor([box for box, _ in self.rows]) * scale))
        found.scores = torch.tensor([score for _, score in self.rows])
        found.pred_classes = torch.zeros(len(self.rows), dtype=torch.int64)
        return found


TRAITS = {"input_mpp": 8.0, "tile_px": 32, "class_names": ("Glomerulus",)}


def test_the_best_threshold_keeps_the_true_boxes_of_the_validation_tiles(
    tile_pairs: Path, tiny_cfg: Callable[..., CfgNode]
) -> None:
    manifest = Manifest.read(tile_pairs)
    (true,) = manifest.split("val").boxes[["x0_l0", "y0_l0", "x1_l0", "y1_l0"]].to_numpy().tolist()
    wrong = [0.0, 0.0, 30.0, 30.0]
    model = Recites((wrong, 0.25), (true, 0.5)).train()
    assert best_thresh(model, tiny_cfg("teacher"), manifest, TRAITS) == 0.5
    assert model.training
    assert best_thresh(Recites((wrong, 0.25)), tiny_cfg("teacher"), manifest, TRAITS) is None


def test_training_stores_it_with_the_student_of_each_step(
    tiny_cfg: Callable[..., CfgNode], teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0.125, 0.25, 0.375])
    monkeypatch.setattr(student_export, "best_thresh", lambda *arguments: next(found))
    cfg = tiny_cfg("distill", "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher), "MODEL.WEIGHTS", str(teacher))
    detector = load_detector(run_training(cfg))
    assert detector.score_thresh == 0.375
    assert detector.provenance["score_thresh_origin"] == "best F1 on the validation tiles"
    steps = [load_detector(path).score_thresh for path in sorted(Path(cfg.OUTPUT_DIR).glob("step*/detector.pth"))]
    assert steps == [0.125, 0.25, 0.375]


def test_without_validation_tiles_there_is_none(
    tile_pairs: Path, tmp_path: Path, tiny_cfg: Callable[..., CfgNode]
) -> None:
    manifest = Manifest.read(tile_pairs).split("train")
    manifest.write(tmp_path)
    for name in {*manifest.tiles["teacher_file"], *manifest.tiles["student_file"]}:
        (tmp_path / name).symlink_to(tile_pairs / name)
    path = run_training(tiny_cfg("teacher", "DATASETS.TILES", str(tmp_path), "SOLVER.MAX_ITER", 1))
    assert load_detector(path).score_thresh is None
    assert "score_thresh" not in read_checkpoint(path)


def test_another_threshold_is_written_beside_and_changes_nothing_else(teacher: Path, tmp_path: Path) -> None:
    before = teacher.read_bytes()
    store_threshold(teacher, tmp_path / "new.pth", 0.625, "a test")
    stored = load_detector(tmp_path / "new.pth")
    assert stored.score_thresh == 0.625
    assert stored.provenance["score_thresh_origin"] == "a test"
    old, new = read_checkpoint(teacher), read_checkpoint(tmp_path / "new.pth")
    assert all(torch.equal(old["model"][key], new["model"][key]) for key in old["model"])
    assert all(old[key] == new[key] for key in old.keys() - {"model", "provenance", "score_thresh"})
    assert teacher.read_bytes() == before


def test_only_what_was_chosen_on_validation_slides_is_stored(teacher: Path, tmp_path: Path) -> None:
    def result(origin: str) -> dict:
        return {"slides": {"score_thresh": 0.7, "score_thresh_origin": origin}}

    with pytest.raises(UserError, match="no threshold of b to store: it is default"):
        store_thresholds(
            {"a": teacher, "b": teacher}, {"a": result("best F1 on val"), "b": result("default")}, tmp_path
        )
    assert list(tmp_path.iterdir()) == []
    (path,) = store_thresholds({"demo/teacher": teacher}, {"demo/teacher": result("best F1 on val")}, tmp_path)
    assert path == tmp_path / "demo-teacher.pth"
    assert load_detector(path).score_thresh == 0.7
