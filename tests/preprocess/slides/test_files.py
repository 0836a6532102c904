from __future__ import annotations

import shutil

import pytest

from preprocess.slides.files import fingerprint, slide_files

SIZE = 3_000_000


def test_a_copy_under_another_name_is_the_same_and_another_slide_is_not(svs_slide, tmp_path):
    copy = shutil.copy(svs_slide, tmp_path / "other name.tif")
    assert fingerprint(copy) == fingerprint(svs_slide)
    (tmp_path / "more.svs").write_bytes(svs_slide.read_bytes() + b"\0")
    assert fingerprint(tmp_path / "more.svs") != fingerprint(svs_slide)
    assert len(fingerprint(svs_slide)) == 64


@pytest.mark.parametrize("place", [0, 70_000, SIZE // 2, SIZE - 1])
def test_a_large_file_that_was_cut_off_or_changed_widely_differs(tmp_path, place):
    path = tmp_path / "large.svs"
    path.write_bytes(bytes(SIZE))
    before = fingerprint(path)
    path.write_bytes(bytes(place) + b"\1" * min(100_000, SIZE - place) + bytes(max(0, SIZE - place - 100_000)))
    assert fingerprint(path) != before
    path.write_bytes(bytes(SIZE - 1))
    assert fingerprint(path) != before


def test_the_files_of_formats_with_several(tmp_path):
    (tmp_path / "a").mkdir()
    for name in (
        "a.mrxs",
        "a/Slidedat.ini",
        "a/Data0001.dat",
        "b.mrxs",
        "c.vms",
        "c.opt",
        "c(1).jpg",
        "d.vms",
        "e.svs",
    ):
        (tmp_path / name).write_text("1")
    named = {
        name: [str(file.relative_to(tmp_path)) for file in slide_files(tmp_path / name)] for name in ("a.mrxs", "c.vms")
    }
    assert named == {"a.mrxs": ["a.mrxs", "a/Data0001.dat", "a/Slidedat.ini"], "c.vms": ["c.vms", "c(1).jpg", "c.opt"]}
    before = fingerprint(tmp_path / "a.mrxs")
    (tmp_path / "a" / "Data0001.dat").write_text("2")
    assert fingerprint(tmp_path / "a.mrxs") != before
