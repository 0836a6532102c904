"""Searching slides, killed at one step after the other and started again: as a run that nothing disturbed."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.blobs import DISCS, write_blob_slide

# Every step that others can see is a rename or a removal. Each attempt dies at another rename.
DRIVER = """
import json, os, sys
from pathlib import Path
from mhkd.inference.cohort_runner import search_slides
from tests.jobs import job_of
from tests.kill import die_at_rename

slides, out = [Path(name) for name in sys.argv[2:]], Path(sys.argv[1])
jobs = [job_of(slide, out, formats=("geojson", "coco", "asap", "overlay")) for slide in slides]
for die_at in [1, 3, 6, 8, 5, None]:
    child = os.fork()
    if child == 0:
        die_at_rename(die_at)
        search_slides(jobs)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    finished = [job.name for job in jobs if job.finished() is not None]
    half = [
        path.name
        for path in out.glob("[!.]*")
        if not path.read_bytes().endswith(b"\\xff\\xd9" if path.suffix == ".jpg" else b"\\n")
    ]
    print(json.dumps({"killed": os.WIFSIGNALED(status), "finished": finished, "half": half}), flush=True)
"""


def steady(folder):
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("a.json", "b.json"):
        summary = json.loads(found[name])
        found[name] = {key: value for key, value in summary.items() if key not in ("seconds", "peak_memory_mb")}
    return found


def drive(folder, slides):
    command = [sys.executable, "-c", DRIVER, str(folder), *map(str, slides)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_killed_at_one_step_after_the_other(tmp_path):
    slides = [write_blob_slide(tmp_path / "a.svs"), write_blob_slide(tmp_path / "b.svs", DISCS[:2])]
    attempts = drive(tmp_path / "killed", slides)
    assert [attempt["killed"] for attempt in attempts] == [True] * 5 + [False]
    assert not any(attempt["half"] for attempt in attempts)
    finished = [len(attempt["finished"]) for attempt in attempts]
    assert finished == sorted(finished)  # what is finished stays
    assert set(finished) == {0, 1, 2}
    drive(tmp_path / "undisturbed", slides)
    assert steady(tmp_path / "killed") == steady(tmp_path / "undisturbed")
