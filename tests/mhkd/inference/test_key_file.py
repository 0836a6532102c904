from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mhkd.inference.key_file import name_slides, write_key
from preprocess.base.errors import UserError
from preprocess.slides.search import SlideFile

FILES = [SlideFile(Path("a, b.svs"), alias="slide-1"), SlideFile(Path("c.svs"), alias="slide-2")]


def test_the_key_says_which_name_is_whose(tmp_path):
    write_key(tmp_path / "key.csv", FILES, tmp_path / "out")
    table = pd.read_csv(tmp_path / "key.csv")
    assert table["name"].tolist() == ["slide-1", "slide-2"]
    assert table["slide"].tolist() == [str(Path("a, b.svs").absolute()), str(Path("c.svs").absolute())]


def test_a_key_among_the_outputs_or_without_neutral_names_is_refused(tmp_path):
    with pytest.raises(UserError, match="among the outputs"):
        write_key(tmp_path / "out" / "deep" / "key.csv", FILES, tmp_path / "out")
    with pytest.raises(UserError, match="--anonymize"):
        write_key(tmp_path / "key.csv", [SlideFile(Path("a.svs"))], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_slides_are_named_as_they_are_or_neutrally(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.svs").write_text(name)
    files = [SlideFile(tmp_path / f"{name}.svs") for name in "ab"]
    assert name_slides(files, tmp_path / "out") == files
    neutral = name_slides(files, tmp_path / "out", anonymize=True, key=tmp_path / "key.csv")
    assert all(file.name.startswith("slide-") for file in neutral)
    assert pd.read_csv(tmp_path / "key.csv")["name"].tolist() == [file.name for file in neutral]
    with pytest.raises(UserError, match="same name"):
        name_slides([*files, SlideFile(tmp_path / "deep" / "a.svs")], tmp_path / "out")
    with pytest.raises(UserError, match="--anonymize"):
        name_slides(files, tmp_path / "out", key=tmp_path / "other.csv")
