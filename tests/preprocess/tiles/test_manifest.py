from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from preprocess.base.errors import UserError
from preprocess.tiles import manifest as manifest_module
from preprocess.tiles.manifest import BOXES_COLUMNS, TILES_COLUMNS, Manifest


@pytest.fixture
def manifest(tmp_path):
    tile = {
        **dict.fromkeys(TILES_COLUMNS, 1),
        "slide_path": "../a.svs",
        "slide": "NA",
        "split": "train",
        "patient": "007",
    }
    tiles = pd.DataFrame([{**tile, "tile_id": "a_0_0"}, {**tile, "tile_id": "a_5_0", "split": "val"}])
    box = {**dict.fromkeys(BOXES_COLUMNS, 0.125), "tile_id": "a_0_0", "label": "NA", "ignore": True}
    return Manifest(
        root=tmp_path,
        tiles=tiles[list(TILES_COLUMNS)].astype(TILES_COLUMNS),
        boxes=pd.DataFrame([box])[list(BOXES_COLUMNS)].astype(BOXES_COLUMNS),
        labels=["NA"],
        teacher_mpp=1.0,
        student_mpp=4.0,
        provenance={"git_commit": None},
    )


def test_write_and_read_is_the_same(manifest, tmp_path):
    manifest.write(tmp_path)
    again = Manifest.read(tmp_path)
    pd.testing.assert_frame_equal(again.tiles, manifest.tiles)
    pd.testing.assert_frame_equal(again.boxes, manifest.boxes)
    assert (again.labels, again.teacher_mpp, again.student_mpp) == (["NA"], 1.0, 4.0)
    assert again.provenance == manifest.provenance


def test_slides_that_failed_are_named(manifest, tmp_path):
    replace(manifest, failed_slides=("broken", "late")).write(tmp_path)
    assert Manifest.read(tmp_path).failed_slides == ("broken", "late")
    assert Manifest.read(tmp_path).split("val").failed_slides == ("broken", "late")


def test_the_same_manifest_is_left_alone_whatever_software_says_it_again(manifest, tmp_path):
    manifest.write(tmp_path)
    files = [tmp_path / name for name in ("manifest.json", "manifest.csv", "boxes.csv")]
    for file in files:
        os.utime(file, ns=(10**18, 10**18))
    again = {"git_commit": "0" * 40, "versions": {"pandas": "9"}}
    replace(manifest, provenance=again).write(tmp_path)
    assert [file.stat().st_mtime_ns for file in files] == [10**18] * 3
    assert Manifest.read(tmp_path).provenance == {"git_commit": None}
    for change in (
        {"provenance": {**again, "parameters": {"tile_px": 128}}},
        {"labels": ["NA", "other"]},
        {"boxes": manifest.boxes.iloc[:0]},
        {"failed_slides": ("late",)},
    ):
        replace(manifest, **change).write(tmp_path)
        assert files[0].stat().st_mtime_ns != 10**18
        assert Manifest.read(tmp_path).failed_slides == change.get("failed_slides", ())
        os.utime(files[0], ns=(10**18, 10**18))


def test_a_table_that_was_lost_or_changed_is_written_again(manifest, tmp_path):
    manifest.write(tmp_path)
    for name in ("manifest.csv", "boxes.csv"):
        (tmp_path / name).unlink()
        manifest.write(tmp_path)
        (tmp_path / name).write_text("")
        manifest.write(tmp_path)
        assert len(Manifest.read(tmp_path).tiles) == 2


@pytest.mark.parametrize("at", range(3))
def test_whenever_a_run_ends_the_manifest_is_whole_or_not_there(manifest, tmp_path, monkeypatch, at):
    manifest.write(tmp_path)
    steps = []

    def write_text(path, text):
        if len(steps) == at:
            raise KeyboardInterrupt
        steps.append(path)
        Path(path).write_text(text)

    monkeypatch.setattr(manifest_module, "write_text", write_text)
    monkeypatch.setattr(manifest_module, "write_json", lambda path, value: write_text(path, json.dumps(value)))
    with pytest.raises(KeyboardInterrupt):
        replace(manifest, boxes=manifest.boxes.iloc[:0]).write(tmp_path)
    with pytest.raises(UserError, match="no manifest"):
        Manifest.read(tmp_path)


def test_what_belongs_to_the_manifest_is_written_before_its_header(manifest, tmp_path):
    seen = []

    def write_others(written):
        seen.append((written is manifest, (tmp_path / "manifest.csv").exists(), (tmp_path / "manifest.json").exists()))

    manifest.write(tmp_path, write_others)
    manifest.write(tmp_path, write_others)
    assert seen == [(True, True, False), (True, True, True)]


def test_a_manifest_without_boxes(manifest, tmp_path):
    manifest.boxes = manifest.boxes.iloc[:0]
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path).boxes.empty


def test_one_split_of_it(manifest):
    assert manifest.split("train").tiles["tile_id"].tolist() == ["a_0_0"]
    assert manifest.split("val").boxes.empty
    with pytest.raises(UserError, match="the split 'test' has no tiles"):
        manifest.split("test")


def test_a_damaged_manifest_says_what_to_do(manifest, tmp_path):
    with pytest.raises(UserError, match=r"no manifest \(make the tiles first"):
        Manifest.read(tmp_path)
    manifest.write(tmp_path)
    header = json.loads((tmp_path / "manifest.json").read_text())
    boxes, tiles = ((tmp_path / name).read_text() for name in ("boxes.csv", "manifest.csv"))
    for name, text, message in [
        ("manifest.json", json.dumps({**header, "schema_version": 99}), "schema version 99 instead of 4"),
        ("manifest.json", "{", "not a manifest"),
        ("manifest.json", json.dumps({"schema_version": 4}), "not a manifest"),
        ("boxes.csv", boxes.replace("a_0_0", "a_5_0"), "boxes.csv: not the table that manifest.json was written for"),
        ("boxes.csv", boxes + boxes.splitlines()[1] + "\n", "boxes.csv: 2 rows, but manifest.json states 1"),
        ("manifest.csv", tiles.splitlines()[0] + "\n", "manifest.csv: 0 rows, but manifest.json states 2"),
        ("boxes.csv", boxes.replace("0.125", "x"), "damaged"),
        ("boxes.csv", boxes.replace("ignore", "crowd"), "wrong columns"),
    ]:
        manifest.write(tmp_path)
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=message):
            Manifest.read(tmp_path)
    (tmp_path / "boxes.csv").unlink()
    manifest.write(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    with pytest.raises(UserError, match="missing from the manifest"):
        Manifest.read(tmp_path)
