from __future__ import annotations

import errno
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.base.console import describe_error
from preprocess.base.files import atomic_path, distinct_names, safe_name


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
