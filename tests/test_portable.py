"""What other systems do not have is taken away: the commands give the same, and nothing is half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.blobs import write_annotations, write_blob_slide, write_cohort

REPOSITORY = Path(__file__).parents[1]
# The libraries, which know the system that they are built for, are imported before.
WITHOUT_POSIX = """
import ctypes, os, runpy, shutil, signal, sys
import detectron2.checkpoint, detectron2.model_zoo, detectron2.modeling, pandas, tifffile, torch, tqdm
real_open, real_library = os.open, ctypes.CDLL

def open_file(path, *options, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return real_open(path, *options, **more)

def library(name, *options, **more):
    if name is None:
        raise TypeError("bad argument type for built-in operation")
    return real_library(name, *options, **more)

os.open, ctypes.CDLL, shutil._use_fd_functions = open_file, library, False
for module, names in {os: ("pread", "sched_getaffinity", "O_DIRECTORY", "killpg", "fork"),
                      signal: ("SIGHUP", "SIGPIPE", "SIGKILL", "SIGALRM", "setitimer")}.items():
    for name in names:
        delattr(module, name)
for name in ("fcntl", "resource", "pwd", "grp"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def run(tmp_path):
    """Run a tool in ``tmp_path``, with or without what other systems do not have."""

    def start(tool: str, *arguments: str, posix: bool) -> None:
        command = [sys.executable, *([] if posix else ["-c", WITHOUT_POSIX]), str(REPOSITORY / "tools" / tool)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MHKD_READER": "tiff"}
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return start


def files(folder: Path, suffix: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob(f"*{suffix}"))}


def test_tiles_are_cut_as_elsewhere(run, tmp_path):
    write_blob_slide(tmp_path / "a.svs")
    write_annotations(tmp_path / "a.geojson")
    write_cohort(tmp_path, [{"slide": "a.svs", "annotation": "a.geojson", "patient": "P1", "split": "train"}])
    sizes = ("--teacher-mpp", "1", "--student-mpp", "4", "--tile-px", "384", "--workers", "0")
    for posix in (True, False):
        run("make_tiles.py", "slides.csv", "--output-dir", str(posix), *sizes, posix=posix)
    assert files(tmp_path / "True", ".png")
    assert files(tmp_path / "False", ".png") == files(tmp_path / "True", ".png")
    assert not list((tmp_path / "False").rglob("*.part*"))


def test_a_slide_is_searched_as_elsewhere(run, tmp_path):
    write_blob_slide(tmp_path / "a.svs")
    for posix in (True, False):
        run("infer_wsi.py", "a.svs", "--output-dir", str(posix), "--formats", "csv", "--device", "cpu", posix=posix)
    assert files(tmp_path / "True", ".csv")
    assert files(tmp_path / "False", ".csv") == files(tmp_path / "True", ".csv")
