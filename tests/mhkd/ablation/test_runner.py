from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mhkd.ablation import runner
from mhkd.ablation.runner import run_controls, seconds_per_iteration, threads_of_a_run
from mhkd.ablation.table import Recipe
from preprocess.tiles.manifest import Manifest
from tests.mhkd.conftest import DEMO


def write_log(folder, iterations: int, seconds: list[float]) -> None:
    folder.mkdir(exist_ok=True)
    step = iterations // len(seconds)
    lines = [json.dumps({"iteration": step * (i + 1) - 1, "time": time}) for i, time in enumerate(seconds)]
    (folder / "metrics.json").write_text("\n".join([*lines, json.dumps({"iteration": iterations})]) + "\n")


def test_seconds_are_the_median_of_the_run(tmp_path):
    assert seconds_per_iteration(tmp_path) is None
    write_log(tmp_path, 60, [9.0, 0.2, 0.25])
    assert seconds_per_iteration(tmp_path) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("said", "jobs", "threads"),
    [
        ("1", 1, 1),
        ("3", 2, 3),
        (" 2,1", 1, 2),  # of nested regions the first
        (None, 1, 8),
        (None, 3, 2),
        (None, 20, 1),
        (None, 0, 8),
        ("", 2, 4),
        ("0", 2, 4),
        ("many", 2, 4),
    ],
)
def test_a_run_takes_the_threads_that_the_user_says(monkeypatch, said, jobs, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads_of_a_run(jobs) == threads


def test_controls_learn_from_the_labels_of_the_detector_that_they_name(tile_pairs, tmp_path, monkeypatch):
    """The detectors that label are trained before, and added where they are missing; one that fails is named."""
    manifest = Manifest.read(tile_pairs)
    hidden = manifest.tiles["tile_id"] == "t5"
    replace(manifest, tiles=manifest.tiles.assign(labelled=~hidden)).write(tmp_path / "tiles")
    done, configs = [], {}

    def carry_out(run):
        done.append(run.control)
        configs[run.control] = runner._config(run)
        run.folder.mkdir(parents=True)
        run.detector.write_bytes(run.control.encode())
        return {}

    def label(model, slides, manifest, folder):
        done.append(f"labels of {model.path.read_text()}")
        if model.path.read_text() == "strict":
            raise OSError("disk full")

    monkeypatch.setattr(runner, "_carry_out", carry_out)
    monkeypatch.setattr(runner, "make_pseudo_labels", label)
    recipe = Recipe.of(DEMO, tmp_path / "tiles", oracle_tiles=Path("oracle"))
    names = ["phase1_labels", "placebo", "self_training", "oracle"]
    outcomes = run_controls(names, [2], recipe, Path("slides.csv"), tmp_path / "out", jobs=0)
    assert done == [
        *("teacher", "oracle", "strict", "labels of teacher", "labels of strict"),
        *("phase1_labels", "placebo", "self_training"),
    ]
    folder = tmp_path / "out" / "pseudo_labels"
    named = {name: cfg.DATASETS.PSEUDO_LABELS for name, cfg in configs.items()}
    assert named["phase1_labels"] == named["placebo"] == str(folder / "teacher" / "seed2")
    assert named["self_training"] == str(folder / "strict" / "seed2")
    assert named["strict"] == named["oracle"] == named["teacher"] == ""
    assert {name for name, cfg in configs.items() if cfg.DATASETS.SHUFFLE_PSEUDO_LABELS} == {"placebo"}
    assert configs["oracle"].DATASETS.TILES == "oracle"
    assert ["disk full" in outcome.error for outcome in outcomes if outcome.error] == [True]
