from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.base import files
from preprocess.base.console import describe_error
from preprocess.base.errors import UserError
from preprocess.base.files import (
    atomic_path,
    distinct_names,
    exclusive_use,
    safe_name,
    temporary_path,
    write_csv,
    write_text,
)

HOLDER = """
import sys, time
from preprocess.base.files import exclusive_use
with exclusive_use(sys.argv[1], part=sys.argv[2] or None):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Start other processes that are at work in ``tmp_path``, or in a part of it."""
    started = []

    def start(part=""):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), part], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"in\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_full_disk_is_told_with_the_file_that_did_not_fit(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(OSError, match="No space left") as raised, atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write does, which knows no name
    assert describe_error(raised.value).startswith(f"{path}: no space left on the device")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_something_else_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(OSError, match="Input/output") as raised, atomic_path(tmp_path / "a.json"):
        raise OSError(errno.EIO, "Input/output error")
    assert raised.value.filename is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/S12-3456.A_1.svs", "S12-3456.A_1"),
        ("Präparat 1 (Kopie).svs", "Präparat 1 (Kopie)"),
        ("腎臓.svs", "腎臓"),
        ("Почка.svs", "Почка"),
        ("वृक्क.svs", "वृक्क"),
    ],
)
def test_letters_of_any_script_stay_in_a_name(path, name):
    assert safe_name(path) == safe_name(unicodedata.normalize("NFD", path)) == unicodedata.normalize("NFC", name)


stems = st.text(st.characters(exclude_characters="/\x00"), min_size=1, max_size=300)


@given(stems, stems)
def test_two_stems_have_two_names(one, two):
    names = [safe_name(f"{stem}.svs") for stem in (one, two)]
    assert (names[0] == names[1]) == (unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", two))
    for name in names:
        assert 0 < len(name.encode()) < 140
        assert name.isprintable()
        assert name[0] not in ". "


def test_names_tell_slides_apart_that_have_the_same_stem():
    paths = ["/d/x/1.svs", "/d/y/1.svs", "/d/y/2.svs", "/d/y/2.tif", "/d/y/A.svs", "/d/y/a.svs", "/d/z.svs"]
    names = distinct_names(paths)
    assert len({name.casefold() for name in names}) == len(paths)
    assert names[-1] == "z"
    assert distinct_names([path.replace("/d/", "/elsewhere/e/") for path in paths]) == names


def test_two_writers_of_one_file_do_not_meet_whatever_their_process_numbers(tmp_path):
    with atomic_path(tmp_path / ("x" * 250 + ".csv")) as first, atomic_path(tmp_path / ("x" * 250 + ".csv")) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 250 + ".csv"]


def test_text_that_is_no_utf_8_can_be_written(tmp_path):
    write_text(tmp_path / "a.txt", "sch\udce4del")
    write_csv(tmp_path / "a.csv", pd.DataFrame({"slide": ["sch\udce4del"]}))
    assert (tmp_path / "a.txt").read_text() == r"sch\udce4del"
    assert (tmp_path / "a.csv").read_text() == "slide\n" + r"sch\udce4del" + "\n"


@pytest.mark.parametrize(("theirs", "ours"), [("", None), ("", "1-of-2"), ("1-of-2", None), ("1-of-2", "1-of-2")])
def test_a_folder_in_use_is_refused_and_nothing_in_it_touched(holder, tmp_path, theirs, ours):
    holder(theirs)
    half = temporary_path(tmp_path, ".json")
    half.touch()
    with pytest.raises(UserError, match="another process is at work here"), exclusive_use(tmp_path, part=ours):
        pass
    assert half.exists()


def test_parts_of_a_folder_are_used_at_the_same_time(holder, tmp_path):
    holder("1-of-2")
    half = temporary_path(tmp_path)
    half.mkdir()
    with exclusive_use(tmp_path, part="2-of-2"):
        assert half.exists()


def test_a_killed_process_leaves_no_lock_and_what_it_left_is_removed(holder, tmp_path):
    process = holder()
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "tiles").mkdir()
    left = [temporary_path(tmp_path, ".json"), temporary_path(tmp_path / "tiles")]
    left[0].touch()
    (left[1] / "deep").mkdir(parents=True)
    (tmp_path / ".mine.part").touch()
    with exclusive_use(tmp_path, below=["tiles"]):
        assert not any(path.exists() for path in left)
        left[0].touch()  # of a worker that is killed
    assert not left[0].exists()
    assert (tmp_path / ".mine.part").exists()


def test_where_no_locks_are_known_nobody_is_kept_out_and_nothing_removed(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", unknown)
    half = temporary_path(tmp_path)
    half.touch()
    with exclusive_use(tmp_path), exclusive_use(tmp_path):
        assert half.exists()


def test_a_folder_that_cannot_be_one_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/nowhere/at/all")
    reasons = {"file": "is not a folder", "link": "is not a folder", "file/out": "cannot be written to"}
    for path, reason in reasons.items():
        with pytest.raises(UserError, match=reason), exclusive_use(tmp_path / path):
            pass
    (tmp_path / "there").mkdir()
    (tmp_path / "other").symlink_to("there")
    with exclusive_use(tmp_path / "other"):
        assert os.listdir(tmp_path / "there") == [".lock"]
