from __future__ import annotations

import os
import signal

import pytest

from preprocess.base.errors import UserError
from preprocess.jobs.run import run_cohort
from tools import make_tiles

pytest.importorskip("ray", reason="the extra 'ray' is not installed")


def dies(item):
    """Kill the worker: always for "deadly", at the first attempt only for the path of a file."""
    if item == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if item.startswith(os.sep) and not os.path.exists(item):
        with open(item, "w") as stream:
            stream.write("tried")
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "bad":
        raise UserError("unreadable", path="slide.svs")
    return item


def test_outcomes_as_from_processes_and_a_second_attempt_for_a_killed_worker(tmp_path):
    items = ["a", "bad", str(tmp_path / "tried"), "deadly", "e"]
    on_ray = run_cohort(dies, items, 2, engine="ray")
    assert [result.value for result in on_ray] == ["a", None, items[2], None, "e"]
    assert on_ray[1].error == "slide.svs: unreadable"
    assert "its process died 2 times, on the Ray cluster: " in on_ray[3].error
    assert [result.item for result in on_ray] == items


def test_the_same_bytes_as_without_ray(slides_csv, tmp_path):
    for engine in ("local", "ray"):
        arguments = ["--output-dir", str(tmp_path / engine), "--tile-px", "256", "--engine", engine, "--workers", "2"]
        assert make_tiles.main([str(slides_csv), *arguments]) == 0
    local, on_ray = (
        {path.relative_to(tmp_path / engine): path.read_bytes() for path in (tmp_path / engine).rglob("*.*")}
        for engine in ("local", "ray")
    )
    assert local == on_ray


def test_no_cluster_is_one_clear_error():
    with pytest.raises(UserError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        run_cohort(dies, ["a"], engine="ray", address="127.0.0.1:1")


def test_a_cluster_that_does_not_start_is_one_clear_error(monkeypatch):
    import ray

    def late(**options):
        raise Exception("The current node timed out during startup")  # as Ray does, on a busy machine

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(UserError, match="no Ray cluster at this machine: The current node timed out"):
        run_cohort(dies, ["a"], 1, engine="ray")
