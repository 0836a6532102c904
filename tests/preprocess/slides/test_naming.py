from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from preprocess.base.errors import UserError
from preprocess.slides.naming import anonymized, name_slides, without_names, write_key
from preprocess.slides.search import SlideFile

FILES = [SlideFile(Path("a, b.svs"), patient="NA"), SlideFile(Path("c.svs"))]
NAMED = [SlideFile(Path("a, b.svs"), alias="slide-1"), SlideFile(Path("c.svs"), alias="slide-2")]


def test_the_key_says_which_name_is_whose(tmp_path):
    write_key(tmp_path / "key.csv", FILES, NAMED, tmp_path / "out")
    table = pd.read_csv(tmp_path / "key.csv", keep_default_na=False)
    assert table["name"].tolist() == ["slide-1", "slide-2"]
    assert table["slide"].tolist() == [str(Path("a, b.svs").absolute()), str(Path("c.svs").absolute())]
    assert table["patient"].tolist() == ["NA", ""]


def test_a_key_among_the_outputs_or_without_neutral_names_is_refused(tmp_path):
    with pytest.raises(UserError, match="among the outputs"):
        write_key(tmp_path / "out" / "deep" / "key.csv", FILES, NAMED, tmp_path / "out")
    with pytest.raises(UserError, match="--anonymize"):
        write_key(tmp_path / "key.csv", FILES, FILES, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_slides_are_named_as_they_are_or_neutrally(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.svs").write_text(name)
    files = [SlideFile(tmp_path / f"{name}.svs") for name in "ab"]
    assert [file.name for file in name_slides(files, tmp_path / "out")] == ["a", "b"]
    neutral = name_slides(files, tmp_path / "out", anonymize=True, key=tmp_path / "key.csv")
    assert all(file.name.startswith("slide-") for file in neutral)
    assert pd.read_csv(tmp_path / "key.csv")["name"].tolist() == [file.name for file in neutral]
    several = name_slides([*files, SlideFile(tmp_path / "deep" / "a.svs")], tmp_path / "out")
    assert len({file.name for file in several}) == 3
    assert several[1].name == "b"
    with pytest.raises(UserError, match="--anonymize"):
        name_slides(files, tmp_path / "out", key=tmp_path / "other.csv")


def test_neutral_names_depend_on_the_content_alone(svs_slide, tmp_path):
    (tmp_path / "sub").mkdir()
    copy = Path(shutil.copy(svs_slide, tmp_path / "sub" / "Smith.svs"))
    other = tmp_path / "b.svs"
    other.write_bytes(svs_slide.read_bytes() + b"more")
    files = [SlideFile(svs_slide, patient="Smith"), SlideFile(other, patient="Smith"), SlideFile(tmp_path / "gone.svs")]
    one, two, gone = anonymized(files)
    assert one.alias.startswith("slide-")
    assert one.alias == anonymized([SlideFile(copy)])[0].alias != two.alias
    assert one.patient == two.patient == f"patient-of-{min(one.alias, two.alias)}"
    assert (gone.name, gone.patient) == ("unreadable-3", None)
    assert anonymized(files[::-1])[::-1][:2] == [one, two]


def test_an_error_without_the_names_of_files():
    path = Path("/data/Smith/Smith 1947.svs")
    error = f"{path}: it is not Smith 1947.png, see /data/Smith/Smith 1947.xml"
    assert "Smith" not in without_names(error, [path, path.with_suffix(".xml")], "slide-1")
    assert without_names(f"{path}: damaged", [path], "Smith 1947.svs", names=False) == "Smith 1947.svs: damaged"
    assert without_names("a/b.svs: not a slide", [Path("a/b.svs")], "b.svs", names=False) == "b.svs: not a slide"
