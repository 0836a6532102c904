from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest

from preprocess.base.errors import UserError
from preprocess.base.files import exclusive_use, sha256_of
from preprocess.slides import cache as slide_cache
from preprocess.slides.cache import local_copy
from preprocess.slides.slide import Slide
from tools import make_tiles


def test_a_copy_while_it_is_read(svs_slide, tmp_path):
    with local_copy(svs_slide, tmp_path / "cache") as path:
        assert path != svs_slide
        assert path.name == svs_slide.name
        assert sha256_of(path) == sha256_of(svs_slide)
    assert os.listdir(tmp_path / "cache") == []


def test_the_same_bytes_as_without(slides_csv, tmp_path):
    for name, options in (("plain", []), ("cached", ["--cache-dir", str(tmp_path / "cache")])):
        arguments = ["--output-dir", str(tmp_path / name), "--tile-px", "256", "--workers", "0", *options]
        assert make_tiles.main([str(slides_csv), *arguments]) == 0
    plain, cached = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
        for name in ("plain", "cached")
    )
    assert plain == cached
    assert os.listdir(tmp_path / "cache") == []


def test_an_mrxs_slide_comes_with_its_folder(tmp_path):
    (tmp_path / "slide" / "sub").mkdir(parents=True)
    for name in ("slide.mrxs", "slide/Slidedat.ini", "slide/sub/Data0000.dat", "other.svs"):
        (tmp_path / name).write_text(name)
    with local_copy(tmp_path / "slide.mrxs", tmp_path / "cache") as path:
        found = {str(file.relative_to(path.parent)) for file in path.parent.rglob("*") if file.is_file()}
    assert found == {"slide.mrxs", "slide/Slidedat.ini", "slide/sub/Data0000.dat"}


def disk_of(free):
    return lambda _: namedtuple("Usage", "total used free")(10**12, 0, free)


def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "full", [("disk_usage", disk_of(10)), ("copyfile", fail)], ids=["too small", "filled by another"]
)
def test_without_room_the_slide_is_read_in_place(svs_slide, tmp_path, monkeypatch, capsys, full):
    monkeypatch.setattr(slide_cache.shutil, *full)
    with local_copy(svs_slide, tmp_path / "cache") as path:
        assert path == svs_slide
    assert "discs.svs: read in place, no room for it in the cache" in capsys.readouterr().err
    assert os.listdir(tmp_path / "cache") == []


def test_a_dicom_slide_comes_with_its_series(tmp_path, monkeypatch):
    for name, series in (("a.dcm", "1.2.3"), ("b.dcm", "1.2.3"), ("z.dcm", "9.9")):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM" + series.encode())
    monkeypatch.setattr("preprocess.slides.files.series_of", lambda path: "1.2.3")
    with local_copy(tmp_path / "a.dcm", tmp_path / "cache") as path:
        assert path.is_relative_to(tmp_path / "cache")
        assert sorted(os.listdir(path.parent)) == ["a.dcm", "b.dcm"]


def test_a_short_copy_is_refused(svs_slide, tmp_path, monkeypatch):
    monkeypatch.setattr(slide_cache.shutil, "copyfile", lambda _, target: target.write_bytes(b"half"))
    with (
        pytest.raises(UserError, match="changed while it was copied"),
        local_copy(svs_slide, tmp_path / "cache"),
    ):
        pass
    assert os.listdir(tmp_path / "cache") == []


def test_errors_name_the_slide_and_not_the_copy(tmp_path):
    (tmp_path / "bad.svs").write_text("no slide")
    with (
        pytest.raises(UserError, match="neither a slide") as caught,
        local_copy(tmp_path / "bad.svs", tmp_path / "cache") as path,
    ):
        Slide.open(path)
    assert caught.value.path == tmp_path / "bad.svs"


def test_copies_of_killed_processes_are_removed(svs_slide, tmp_path):
    cache = tmp_path / "cache"
    script = (
        "import os, signal, sys; from pathlib import Path; from preprocess.slides.cache import local_copy\n"
        "with local_copy(Path(sys.argv[1]), Path(sys.argv[2])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(svs_slide), str(cache)], check=False)
    (left,) = cache.iterdir()
    in_use = cache / "mhkd-in-use"
    shutil.copytree(left, in_use)
    shutil.copytree(left, cache / "mhkd-young")
    with exclusive_use(in_use):
        for folder in (left, in_use):
            os.utime(folder, (0, 0))
        with local_copy(svs_slide, cache):
            pass
    assert sorted(os.listdir(cache)) == ["mhkd-in-use", "mhkd-young"]
