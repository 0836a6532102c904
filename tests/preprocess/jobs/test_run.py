from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from preprocess.base.errors import UserError
from preprocess.jobs.job_result import JobResult
from preprocess.jobs.run import parse_limit, run_cohort

# Workers import what they run by name, so it stands in a module of its own, which the tests write.
JOBS = """
import errno, os, signal, time
from pathlib import Path
from preprocess.base.errors import UserError

def work(item):
    if item == "bad":
        raise UserError("unreadable", path="slide.svs", remedy="copy it again")
    if item == "bug":
        return {}["key"]
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(item, str) and item.startswith("once:") and not Path(item[5:]).exists():
        Path(item[5:]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "stalls":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # as in a library that never returns
        time.sleep(600)
    if item == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "tile.jpg")
    if item == "gone":
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "slide.svs")
    return item * 2

def slow(path):
    part = Path(path)
    part.touch()
    try:
        time.sleep(60)
    finally:
        part.unlink()
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    (tmp_path / "cohort_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    sys.modules.pop("cohort_jobs", None)
    return __import__("cohort_jobs")


@pytest.mark.parametrize("workers", [0, 2])
def test_one_failure_does_not_stop_the_others(jobs, workers, capfd):
    results = run_cohort(jobs.work, [1, "bad", "bug", "gone", 5], workers)
    assert [result.value for result in results] == [2, None, None, None, 10]
    assert results[0] == JobResult(1, value=2)
    assert results[1].error == "slide.svs: unreadable (copy it again)"
    assert results[2].error.startswith("KeyError: 'key' (an error of the program")
    assert results[3].error == "slide.svs: no such file or directory"
    assert "Traceback" not in capfd.readouterr().err


def test_a_killed_worker_is_the_failure_of_its_item_alone(jobs, tmp_path, capfd):
    once = f"once:{tmp_path / 'tried'}"
    results = run_cohort(jobs.work, ["killed", 1, once, 3], 1)
    assert [result.value for result in results] == [None, 2, 2 * once, 6]
    assert results[0].error.startswith("its process died 2 times, with exit code -9 (")
    assert "Traceback" not in capfd.readouterr().err


def test_a_stalled_worker_is_ended_and_the_others_go_on(jobs):
    results = run_cohort(jobs.work, ["stalls", *range(5)], 2, limit_s=15)
    assert [result.value for result in results] == [None, 0, 2, 4, 6, 8]
    assert results[0].error.startswith("not finished after 0.25 minutes, and ended (--minutes-per-slide")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("items", [[], [1]])
def test_fewer_than_no_workers_are_refused(jobs, items):
    with pytest.raises(UserError, match="-1 workers are not possible"):
        run_cohort(jobs.work, items, -1)


@pytest.mark.parametrize(("text", "seconds"), [("0", None), ("0.5", 30.0), ("120", 7200.0)])
def test_minutes(text, seconds):
    assert parse_limit(text) == seconds


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "an hour"])
def test_what_are_no_minutes(text):
    with pytest.raises(UserError, match="are no minutes"):
        parse_limit(text)


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed \(install it"):
        run_cohort(str, [1], engine="ray")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_ends_the_run(jobs, workers):
    with pytest.raises(OSError, match="No space left") as caught:
        run_cohort(jobs.work, ["full", "x", "y", "z"], workers)
    assert caught.value.errno == errno.ENOSPC


def test_nothing_to_do(jobs):
    assert run_cohort(jobs.work, [], 4) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_cleans_up_in_every_worker(jobs, tmp_path, workers):
    files = [str(tmp_path / f"{number}.part") for number in range(3)]
    script = tmp_path / "run.py"
    script.write_text(
        "from cohort_jobs import slow\nfrom preprocess.jobs.run import run_cohort\n"
        "from preprocess.base.console import run_main\n"
        f"if __name__ == '__main__':\n    run_main(lambda: run_cohort(slow, {files!r}, {workers}) and 0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell inherits "ignore Ctrl-C".
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while sum(Path(file).exists() for file in files) < max(1, workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted: what was finished is kept" in errors
    assert not list(tmp_path.glob("*.part"))


def test_errors_in_one_line():
    (result,) = run_cohort(_raise_two_lines, [0])
    assert result.error == "first second"


def _raise_two_lines(_: int) -> None:
    raise UserError("first\nsecond")
