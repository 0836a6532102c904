"""Cutting slides, killed at many moments and started again: the same bytes as a run that nothing disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import make_tiles

OPTIONS = ["--tile-px", "128", "--overlap", "0", "--min-tissue", "0"]

# Each attempt dies at another rename; the last is left alone.
# The children are forked from a process that has used no library yet, so they start without imports.
DRIVER = """
import os, sys
from pathlib import Path
from tests.kill import die_at_rename
from tools import make_tiles

root, arguments = Path(sys.argv[1]), sys.argv[2:]
finished = {}
for die_at in [2, 4, 7, 5, 3, 6, 11, None]:
    child = os.fork()
    if child == 0:
        die_at_rename(die_at)
        os._exit(make_tiles.main(arguments))
    status = os.waitpid(child, 0)[1]
    times = {path.name: path.stat().st_mtime_ns for path in (root / "slides").glob("*.json")}
    assert times.items() >= finished.items(), "a finished slide was made again"
    finished = times
    how = "killed" if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
    print("attempt:", how, len(finished), flush=True)
"""


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob(".*")]


@pytest.fixture(scope="module")
def undisturbed(slides_csv, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "tiles"
    assert make_tiles.main([str(slides_csv), "--output-dir", str(root), "--workers", "0", *OPTIONS]) == 0
    return contents(root)


def start(slides_csv, root, *options):
    command = [sys.executable, make_tiles.__file__, str(slides_csv), "--output-dir", str(root), *OPTIONS, *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_killed_at_one_step_after_the_other(slides_csv, undisturbed, tmp_path):
    root = tmp_path / "tiles"
    arguments = [str(root), str(slides_csv), "--output-dir", str(root), "--workers", "0", *OPTIONS]
    done = subprocess.run([sys.executable, "-c", DRIVER, *arguments], capture_output=True, text=True, check=False)
    attempts = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("attempt: ")]
    assert done.returncode == 0, done.stderr
    # How each attempt ended, and how many slides were finished by then.
    assert [how for how, _ in attempts] == ["killed"] * 7 + ["0"]
    finished = [int(count) for _, count in attempts]
    assert finished == sorted(finished)
    assert set(finished) == {0, 1, 2, 3}
    assert contents(root) == undisturbed
    assert leftovers(root) == []


def test_a_killed_run_leaves_no_worker_behind_and_goes_on(slides_csv, undisturbed, tmp_path):
    root = tmp_path / "tiles"
    process = start(slides_csv, root, "--workers", "2")
    wait_for(lambda: list(root.glob("tiles/.*.part")))
    workers = workers_of(process.pid)
    assert workers
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not any(map(is_alive, workers)))
    assert make_tiles.main([str(slides_csv), "--output-dir", str(root), "--workers", "0", *OPTIONS]) == 0
    assert contents(root) == undisturbed
    assert leftovers(root) == []


def test_a_killed_worker_costs_one_more_attempt(slides_csv, undisturbed, tmp_path):
    root = tmp_path / "tiles"
    process = start(slides_csv, root, "--workers", "1")
    wait_for(lambda: list(root.glob("tiles/.*.part")))
    (worker,) = workers_of(process.pid)
    os.kill(worker, signal.SIGKILL)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "3 slides done, 0 skipped, 0 failed" in printed
    assert contents(root) == undisturbed


def test_other_options_leave_nothing_of_before(slides_csv, undisturbed, tmp_path, capsys):
    root = tmp_path / "tiles"
    arguments = [str(slides_csv), "--output-dir", str(root), "--workers", "0"]
    assert make_tiles.main([*arguments, "--tile-px", "256"]) == 0
    assert make_tiles.main([*arguments, *OPTIONS]) == 0
    assert "3 slides were cut with other options or from other files" in capsys.readouterr().err
    assert contents(root) == undisturbed


def test_parts_of_the_table_make_the_whole(slides_csv, undisturbed, tmp_path, capsys):
    root = tmp_path / "tiles"
    arguments = [str(slides_csv), "--output-dir", str(root), "--workers", "0", *OPTIONS]
    for part in (3, 1, 2):
        assert make_tiles.main([*arguments, "--shard", f"{part}/3"]) == 0
        assert not (root / "manifest.json").exists()
    assert make_tiles.main([*arguments, "--shard", "9/9"]) == 0
    assert make_tiles.main(arguments) == 0
    assert "0 slides done, 3 skipped, 0 failed" in capsys.readouterr().out
    assert contents(root) == undisturbed


def test_slides_that_left_the_table_are_noticed_and_can_be_removed(slides_csv, undisturbed, tmp_path, capsys):
    root = tmp_path / "tiles"
    arguments = ["--output-dir", str(root), "--workers", "0", *OPTIONS]
    table = slides_csv.with_name("more.csv")
    table.write_text(slides_csv.read_text() + "discs-again.svs,a.geojson,patient-d,train\n")
    slides_csv.with_name("discs-again.svs").write_bytes(slides_csv.with_name("a.svs").read_bytes() + b"again")
    assert make_tiles.main([str(table), *arguments]) == 0
    assert make_tiles.main([str(slides_csv), *arguments]) == 0
    assert "1 slides of an earlier run are not in the table: discs-again (their tiles" in capsys.readouterr().err
    assert "discs-again" not in (root / "manifest.csv").read_text()
    assert "discs-again" not in json.dumps(json.loads((root / "manifest.json").read_text()))
    assert (root / "tiles" / "discs-again").is_dir()
    assert make_tiles.main([str(slides_csv), *arguments, "--prune"]) == 0
    assert contents(root) == undisturbed
