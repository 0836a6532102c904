from __future__ import annotations

import json

import pytest

from tools.benchmarks import training as benchmark_training

SMALL = [
    *("--upsample", "1", "--tile-px", "64", "--batch-size", "2", "--iterations", "1", "--device", "cpu"),
    *("MODEL.TIMM.PRETRAINED", "none", "MODEL.FPN.OUT_CHANNELS", "32", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"),
]


def test_it_measures_phases_on_random_tiles(tmp_path, capsys):
    files = ["--output-json", str(tmp_path / "a.json"), "--output-md", str(tmp_path / "a.md")]
    assert benchmark_training.main(["--phases", "basic", "mutual", *files, *SMALL]) == 0
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [(row["phase"], row["upsample"]) for row in rows] == [("basic", 1), ("mutual", 1)]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["seconds"] / row["floor_seconds"])  # of a single turn
        assert row["images_per_s"] == pytest.approx(2 / row["seconds"])
        assert row["peak_mb"] is None or 100 < row["peak_mb"] < 5000
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "a.md").read_text()
    assert "| mutual |" in printed


def test_it_measures_loading(capsys):
    assert benchmark_training.main(["--phases", "basic", "--data", "0", "1", *SMALL]) == 0
    assert "| basic, 1 workers |" in capsys.readouterr().out
