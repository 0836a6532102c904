from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from detectron2.structures import Instances
from fvcore.transforms.transform import TransformList

from mhkd.ablation.untrained import export_untrained
from mhkd.data.mapper import ground_truth
from mhkd.deploy.detector_file import load_detector
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest
from tests.mhkd.conftest import DEMO, TINY
from tools import make_tiles
from tools.benchmarks import peers as benchmark_peers
from tools.benchmarks.contestants.enlarged import FILTERS, Enlarged, _filter, teacher_behind
from tools.benchmarks.contestants.peer import as_output
from tools.benchmarks.contestants.peer_runs import markdown
from tools.benchmarks.contestants.torchvision_rcnn import _rate, _shares, _to_torchvision
from tools.benchmarks.contestants.ultralytics_yolo import write_dataset


def test_bilinear_enlargement_is_that_of_the_teacher_as_it_is(tile_pairs, teacher, tmp_path):
    export_untrained(teacher, tmp_path / "untrained.pth", Manifest.read(tile_pairs), 4)
    model = load_detector(tmp_path / "untrained.pth").model
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    network_input = model.preprocess_image([{"image": image}]).tensor[0].float()
    large = _filter(FILTERS["bilinear"], 4)(np.ascontiguousarray(image.numpy().transpose(1, 2, 0)))
    expected = (network_input * model.pixel_std + model.pixel_mean).numpy().transpose(1, 2, 0)
    assert np.abs(large - expected).max() <= 1  # rounded to whole grey values


def test_boxes_come_back_in_pixels_of_the_small_image():
    def half(inputs):
        (x,) = inputs
        assert x["image"].shape == (3, 32, 64)
        return [as_output([[0, 0, 32, 32]], [0.5], [0], (32, 64))]

    peer = Enlarged(half, _filter(FILTERS["bicubic"], 4), 4)
    (output,) = peer([{"image": torch.zeros(3, 8, 16, dtype=torch.uint8)}])
    assert output["instances"].pred_boxes.tensor.tolist() == [[0, 0, 8, 8]]
    assert output["instances"].image_size == (8, 16)


def test_super_resolution_that_is_not_installed_says_so(tile_pairs, teacher):
    if importlib.util.find_spec("ncnn"):
        pytest.skip("ncnn is installed")
    with pytest.raises(UserError, match="pip install ncnn"):
        teacher_behind("sr-light", Manifest.read(tile_pairs), teacher)


def test_torchvision_counts_classes_from_one_and_takes_tiles_without_objects():
    tile = {
        "image": torch.full((3, 4, 4), 255, dtype=torch.uint8),
        "instances": ground_truth([], TransformList([]), (4, 4))[0],
    }
    image, target = _to_torchvision(tile)
    assert image.max() == 1.0
    assert (target["boxes"].shape, target["labels"].shape) == ((0, 4), (0,))
    found = as_output([[1, 1, 3, 3]], [0.5], [0], (4, 4))["instances"]
    tile["instances"] = Instances((4, 4), gt_boxes=found.pred_boxes, gt_classes=found.pred_classes)
    assert _to_torchvision(tile)[1]["labels"].tolist() == [1]


def test_the_learning_rate_warms_up_and_decays_as_ours():
    assert [round(_rate(done), 4) for done in (0.0, 0.05, 0.5, 0.7, 0.9)] == [0.001, 0.501, 1.0, 0.1, 0.01]


def test_training_ends_with_its_iterations_or_its_processor_seconds(monkeypatch):
    assert list(_shares(4, None)) == [0.0, 0.25, 0.5, 0.75]
    clock = iter([7.0, 7.0, 7.5, 8.0, 9.0])
    monkeypatch.setattr("time.process_time", lambda: next(clock))
    assert list(_shares(4, 2.0)) == [0.0, 0.25, 0.5]


def test_yolo_gets_the_boxes_of_the_tiles_as_shares(tile_pairs, tmp_path):
    manifest = Manifest.read(tile_pairs)
    data = write_dataset(manifest, tmp_path / "dataset")
    assert "0: Glomerulus" in data.read_text()
    labels = sorted((tmp_path / "dataset" / "labels" / "train").iterdir())
    assert len(labels) == len(list((tmp_path / "dataset" / "images" / "train").iterdir())) == 6
    box = manifest.boxes.set_index("tile_id").loc["t0"]
    label, *shares = (float(x) for x in labels[0].read_text().split())
    x0, y0, x1, y1 = (box[key] / 512 for key in ("x0_l0", "y0_l0", "x1_l0", "y1_l0"))
    assert (label, shares) == (0, pytest.approx([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], abs=1e-4))
    assert labels[5].read_text() == ""  # a tile without an object


def test_the_table_has_means_over_seeds():
    rows = [
        {"peer": "bicubic", "seed": s, "start": "x", "iterations": 5, "cpu_s": 2.0, "AP": ap}
        for s, ap in ((1, 40), (2, 44))
    ]
    rest = dict.fromkeys(("AP50", "AP75", "F1", "centre_F1", "s per slide"), 10.0)
    text = markdown(pd.DataFrame([row | rest for row in rows]))
    assert "| HR teacher behind bicubic enlargement | x | 5 | 2 | 2 | 42.0 +- 2.8 | 10.0 +- 0.0 |" in text


def test_peers_are_trained_and_scored_like_ours_and_not_twice(slides_csv, tmp_path, teacher, capsys):
    tiles, output = tmp_path / "tiles", tmp_path / "peers"
    options = ("--tile-px", "128", "--teacher-mpp", "2", "--student-mpp", "8", "--workers", "0")
    assert make_tiles.main([str(slides_csv), "--output-dir", str(tiles), *options]) == 0
    teachers = tmp_path / "controls" / "teacher" / "seed1"
    teachers.mkdir(parents=True)
    (teachers / "detector.pth").symlink_to(teacher)
    command = [
        *("--tiles", str(tiles), "--slides", str(slides_csv), "--teachers", str(tmp_path / "controls")),
        *("--output-dir", str(output), "--configs", str(DEMO), "--iterations", "1", "--teacher-iterations", "1"),
        *("--peers", "bicubic,torchvision-lite0,bicubic-trained", "--model", f"teacher={teacher}", "--device", "cpu"),
        *(str(x) for key, value in TINY.items() if key != "SOLVER.MAX_ITER" for x in (key, value)),
    ]
    assert benchmark_peers.main(command) == 0
    runs = pd.read_csv(output / "peers.csv").set_index("peer")
    assert list(runs.index) == ["bicubic", "torchvision-lite0", "bicubic-trained", "teacher"]
    assert list(runs["iterations"][:3]) == [0, 2, 1]
    assert set(runs["input_mpp"][:3]) == {8.0}
    trained = _modified(output)
    capsys.readouterr()
    assert benchmark_peers.main(command) == 0
    assert _modified(output) == trained
    assert (
        "| our strict baseline with a bicubic instead of a bilinear input | HR teacher | 1 |" in capsys.readouterr().out
    )


def test_an_unknown_peer_is_refused(tile_pairs, tmp_path):
    where = ["--tiles", str(tile_pairs), "--slides", "s.csv", "--teachers", "t", "--output-dir", str(tmp_path)]
    with pytest.raises(UserError, match="no peer is called yolo"):
        benchmark_peers.main([*where, "--peers", "yolo"])
    with pytest.raises(UserError, match="no training in 0 seconds"):
        benchmark_peers.main([*where, "--cpu-seconds", "0"])


def _modified(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("result.json"))}
