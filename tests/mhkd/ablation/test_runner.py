from __future__ import annotations

import json
import os

import pytest

from mhkd.ablation.runner import seconds_per_iteration, threads_of_a_run


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
