from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from preprocess.base.errors import UserError
from preprocess.base.images import write_image
from preprocess.slides import search as slide_search
from preprocess.slides.search import SlideFile, find_slides


@pytest.fixture
def folder(svs_slide, tmp_path):
    """Slides at two depths, and what lies beside slides."""
    root = tmp_path / "slides"
    for name in ("b.svs", "deep/er/a.svs", "no_suffix", ".hidden.svs", "results/old.svs"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(svs_slide, root / name)
    tifffile.imwrite(root / "plain.ome.tif", np.zeros((64, 64, 3), np.uint8))
    (root / "broken.svs").write_bytes(b"not a slide")
    (root / "notes.txt").write_text("a slide? no")
    cv2.imwrite(str(root / "label.png"), np.zeros((8, 8, 3), np.uint8))
    return root


@pytest.fixture
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "picture.jpg"
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    return path


def names(slides, root):
    return [str(slide.path.relative_to(root)) for slide in slides]


def test_a_folder_gives_all_slides_below_it_and_a_damaged_one_is_not_left_out(folder, capsys):
    found = find_slides([folder])
    expected = ["b.svs", "broken.svs", "no_suffix", "plain.ome.tif", "deep/er/a.svs", "results/old.svs"]
    assert names(found, folder) == expected
    printed = capsys.readouterr().err
    assert "1 plain images are not searched: label.png (name them to do so)" in printed
    assert "1 hidden files are not searched: .hidden.svs" in printed


def test_what_is_named_like_a_picture_is_found_whatever_it_is(picture, tmp_path):
    shutil.copy(picture, tmp_path / "good.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "gone.jpg").symlink_to("/nowhere/x.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "README.txt").symlink_to("/nowhere/README.txt")
    for name in ("Thumbs.db", "._good.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"BM")
    expected = ["empty.jpg", "gone.jpg", "good.jpg", "loop.jpg", "pipe.jpg", "text.png"]
    assert names(find_slides([tmp_path]), tmp_path) == expected


@pytest.mark.parametrize("name", ["lost.svs", "other.vsi", "other.lif", "other.dcm", "other.isyntax"])
def test_what_is_only_named_like_a_slide_is_found_and_keeps_no_picture_out(picture, name, tmp_path):
    shutil.copy(picture, tmp_path / "a.jpg")
    (tmp_path / name).write_bytes(b"no slide")
    assert names(find_slides([tmp_path]), tmp_path) == [name, "a.jpg"]


def test_links_lead_to_folders_each_of_which_is_searched_once(svs_slide, tmp_path):
    (tmp_path / "archive" / "deep").mkdir(parents=True)
    shutil.copy(svs_slide, tmp_path / "archive" / "a.svs")
    shutil.copy(svs_slide, tmp_path / "archive" / "deep" / "b.svs")
    (tmp_path / "archive" / "deep" / "up").symlink_to(tmp_path / "archive")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "linked").symlink_to(tmp_path / "archive")
    found = find_slides([tmp_path / "study"])
    assert names(found, tmp_path / "study") == ["linked/a.svs", "linked/deep/b.svs"]


def test_a_link_to_a_slide_that_is_there_is_said_and_the_first_name_counts(svs_slide, tmp_path, capsys):
    folder = tmp_path / "slides"
    folder.mkdir()
    slide = shutil.copy(svs_slide, folder / "a.svs")
    (folder / "b.svs").symlink_to(slide)
    assert [file.path.name for file in find_slides([folder, slide])] == ["a.svs"]
    assert "1 names are links to slides that are searched under another one, such as b.svs" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_is_found_too(svs_slide, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    shutil.copy(svs_slide, tmp_path / "a.svs")
    scan = os.scandir

    def refuse(place):
        if Path(place).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names(find_slides([tmp_path]), tmp_path) == ["a.svs", "locked"]
    with pytest.raises(UserError, match="not readable"):
        find_slides([tmp_path / "locked"])


def test_results_are_not_searched_wherever_they_lie(picture, tmp_path, capsys):
    shutil.copy(picture, tmp_path / "a.jpg")
    pixels = np.zeros((8, 8, 3), np.uint8)
    write_image(tmp_path / "copied.jpg", pixels)
    write_image(tmp_path / "deep" / "copied.png", pixels)
    shutil.copy(picture, tmp_path / "old.overlay.jpg")  # of a version that did not mark what it wrote
    (tmp_path / "old.json").write_text("{}")
    assert names(find_slides([tmp_path]), tmp_path) == ["a.jpg"]
    assert (
        "3 results of this program are not searched: copied.jpg, old.overlay.jpg, copied.png" in capsys.readouterr().err
    )
    assert names(find_slides([tmp_path / "*.jpg"]), tmp_path) == ["a.jpg"]
    with pytest.raises(UserError, match="no slide in this folder"):
        find_slides([tmp_path / "deep"])
    assert find_slides([tmp_path / "copied.jpg"]) == [SlideFile(tmp_path / "copied.jpg")]  # if you say so


def test_a_folder_of_images_alone_gives_them(tmp_path, capsys):
    for name in ("2.png", "1.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    assert names(find_slides([tmp_path]), tmp_path) == ["1.jpg", "2.png"]
    assert capsys.readouterr().err == ""


def test_patterns(folder):
    assert names(find_slides([folder / "**/*.svs"]), folder) == [
        "b.svs",
        "broken.svs",
        "deep/er/a.svs",
        "results/old.svs",
    ]
    assert names(find_slides([folder / "*.png"]), folder) == ["label.png"]
    # A pattern without a suffix means the slides among what it matches.
    assert "notes.txt" not in names(find_slides([folder / "*"]), folder)
    with pytest.raises(UserError, match="no file is named like this"):
        find_slides([folder / "*.ndpi"])


def test_a_file_whose_name_looks_like_a_pattern(svs_slide, tmp_path):
    path = Path(shutil.copy(svs_slide, tmp_path / "case[1].svs"))
    assert find_slides([path]) == [SlideFile(path)]


def test_the_table_says_more_than_a_path_and_a_slide_comes_once(slides_csv):
    table = slides_csv.with_name("of-patients.csv")
    table.write_text("slide;mpp;patient;split;annotation\na.svs;0,25;P 1;unseen;a.geojson\nb.svs;;;;\n")
    found = find_slides([slides_csv.with_name("a.svs"), table, slides_csv.parent])
    assert [slide.name for slide in found] == ["a", "b", "c"]
    first = found[0]
    assert (first.mpp, first.patient, first.annotation) == (0.25, "P 1", slides_csv.with_name("a.geojson"))
    assert (found[1].mpp, found[1].patient, found[1].annotation) == (None, None, None)


def test_a_missing_file_is_left_to_whoever_opens_it_and_an_empty_folder_is_an_error(tmp_path):
    assert find_slides([tmp_path / "missing.svs"]) == [SlideFile(tmp_path / "missing.svs")]
    with pytest.raises(UserError, match="no slide in this folder"):
        find_slides([tmp_path])


def test_a_table_of_tabs_is_one_too(slides_csv):
    table = slides_csv.with_name("slides.TSV")
    table.write_text("slide\tmpp\na.svs\t0.25\n")
    assert [(file.name, file.mpp) for file in find_slides([table])] == [("a", 0.25)]


@pytest.mark.parametrize("name", ["", " "])
def test_a_name_that_is_empty_is_not_this_folder(name):
    with pytest.raises(UserError, match="the name of a slide is empty"):
        find_slides([name])


def test_the_data_folder_of_a_mirax_slide_is_not_searched(svs_slide, tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case.mrxs").write_bytes(b"")
    shutil.copy(svs_slide, tmp_path / "case" / "inner.svs")
    assert names(find_slides([tmp_path]), tmp_path) == ["case.mrxs"]


def test_of_a_dicom_series_one_file_is_taken(tmp_path, monkeypatch):
    series = {"1.dcm": "s", "2.dcm": "s", "3.dcm": "other"}
    for name in series:
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(slide_search.OpenSlideReader, "recognises", lambda path: True)
    monkeypatch.setattr(slide_search, "series_of", lambda path: series[path.name])
    for arguments in ([tmp_path], [tmp_path / "*.dcm"], sorted(tmp_path.iterdir())):
        assert names(find_slides(arguments), tmp_path) == ["1.dcm", "3.dcm"]


def test_a_slide_has_its_own_names_or_neutral_ones():
    own = SlideFile(Path("case 7 (Smith).SVS"))
    assert (own.name, own.file_name) == ("case 7 (Smith)", "case 7 (Smith).SVS")
    assert SlideFile(Path("new\nline\udce4.jpg")).file_name == r"new\nline\udce4.jpg"
    neutral = SlideFile(own.path, alias="slide-1")
    assert (neutral.name, neutral.file_name) == ("slide-1", "slide-1.svs")
