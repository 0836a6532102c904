from __future__ import annotations

import json

import pytest

from preprocess.base.errors import UserError
from tools.benchmarks import tiling as benchmark_tiling
from tools.benchmarks.contestants.measure import summary

OPTIONS = ["--mpp", "1", "--tile-px", "128", "--student-mpp", "4", "--repeats", "1", "--workers", "2"]


def test_all_contestants_of_this_environment_cut_the_same_tiles(svs_slide, tmp_path, capsys):
    output = tmp_path / "speed.json"
    only = ["--only", "ours", "naive", "direct", "pairs"]
    assert benchmark_tiling.main([str(svs_slide), *OPTIONS, *only, "--output-json", str(output)]) == 0
    written = json.loads(output.read_text())
    counts = {name: row["tiles"] for name, row in written["figures"].items()}
    expected = len(written["job"]["places"])
    assert expected > 10
    assert counts == dict.fromkeys(("ours", "naive", "direct", "pairs"), expected)
    for name, turns in written["runs"].items():
        row = written["figures"][name]
        assert [turn["seconds"] for turn in turns] == [row["seconds"]]
        assert 10 < row["peak_mb"] < 500
        assert row["ours_ratio"] * row["tiles_per_s"] == pytest.approx(written["figures"]["ours"]["tiles_per_s"])
    assert "| ours | " in capsys.readouterr().out


def test_the_median_turn_counts():
    turns = [{"tiles": 10.0, "seconds": seconds, "cpu_s": 1.0, "peak_mb": 50.0} for seconds in (2.0, 1.0, 5.0)]
    row = summary(turns)
    assert (row["seconds"], row["tiles_per_s"], row["lowest"], row["highest"]) == (2, 5, 2, 10)


def test_a_contestant_that_fails_is_an_error_with_its_words(svs_slide, tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\necho no such library >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    options = [*OPTIONS, "--only", "dzsave", "--pyvips-python", str(tmp_path / "python")]
    with pytest.raises(UserError, match="dzsave failed: no such library"):
        benchmark_tiling.main([str(svs_slide), *options])
