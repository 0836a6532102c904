from __future__ import annotations

import json

import numpy as np
import pytest

from preprocess.base.errors import UserError
from preprocess.cohorts.hubmap2023 import build
from tests.preprocess.cohorts.conftest import GLOMERULI, boxes, boxes_of, kidney, splits_of, write_tiff
from tools import make_table

# Tile: slide, data set. Slides 1 and 4 are told alike.
TILES = {"a1": ("1", 1), "a2": ("2", 1), "b1": ("1", 2), "b3": ("3", 2), "b4": ("4", 2), "c9": ("9", 3)}
DONORS = {"1": "58,F", "2": "37,F", "3": "78,M", "4": "58,F", "9": "61,M"}


def line(name):
    ring = [
        [x + dx * r, y + dy * r] for x, y, r in [GLOMERULI["small"]] for dx, dy in ((-1, 0), (0, -1), (1, 0), (0, 1))
    ]
    vessel = [[10, 10], [30, 10], [30, 40], [10, 40]]
    annotations = [{"type": "blood_vessel", "coordinates": [vessel]}, {"type": "glomerulus", "coordinates": [ring]}]
    return json.dumps({"id": name, "annotations": annotations})


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "hubmap-hacking-the-human-vasculature"
    for i, name in enumerate(TILES):
        write_tiff(folder / "train" / f"{name}.tif", kidney(i), "strips")
    write_tiff(folder / "test" / "a1.tif", kidney(), "strips")  # the competition's sample is a training tile
    annotated = [name for name in TILES if name != "c9"]
    (folder / "polygons.jsonl").write_text("\n".join(map(line, annotated)) + "\n")
    rows = [f"{name},{slide},{part},512,1024" for name, (slide, part) in TILES.items()]
    (folder / "tile_meta.csv").write_text("\n".join(["id,source_wsi,dataset,i,j", *rows]) + "\n")
    rows = [f"{slide},{told}" for slide, told in DONORS.items()]
    (folder / "wsi_meta.csv").write_text("\n".join(["source_wsi,age,sex", *rows]) + "\n")
    return folder


def test_from_the_download_to_tile_pairs(folder, tmp_path, cut, capsys):
    path = tmp_path / "slides.csv"
    assert make_table.main(["hubmap2023", str(folder), "--mpp", "0.5", "--output", str(path)]) == 0
    said = capsys.readouterr().err
    assert "1 tiles without annotations are left out" in said
    assert "3 of 5 tiles were annotated sparsely" in said
    table, manifest = cut(path, "--labels", "glomerulus")
    assert manifest.labels == ["glomerulus"]
    for name in ("a1", "a2", "b1", "b3", "b4"):
        np.testing.assert_allclose(boxes_of(manifest, name), boxes()[:1] - [0, 0, 1, 1])
    assert all(len(splits) == 1 for splits in splits_of(manifest.tiles).values())
    assert set(table["patient"]) == {"wsi1+4", "wsi2", "wsi3"}
    assert dict(zip(table["slide"].map(lambda name: name[-6:-4]), table["reviewed"], strict=True))["a1"] == "yes"
    assert not {"age", "sex"} & set(table.columns)


def test_the_pixel_size_must_be_stated(folder, tmp_path):
    with pytest.raises(UserError, match=r"a1\.tif: the slide does not say its mpp.*--mpp"):
        build(folder, tmp_path / "extras")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "train" / "b3.tif").unlink(), "1 images of annotated tiles are missing: b3"),
        (lambda folder: (folder / "polygons.jsonl").unlink(), "no polygons.jsonl"),
        (
            lambda folder: (folder / "polygons.jsonl").write_text(line("a1") + '\n{"id": "a2", "ann'),
            "line 2 is damaged",
        ),
        (
            lambda folder: (folder / "tile_meta.csv").write_text("id,source_wsi,dataset\na1,1,1\n"),
            "have no row in tile_meta",
        ),
        (
            lambda folder: (folder / "wsi_meta.csv").write_text("source_wsi,age\n1,58\n"),
            "have no row in wsi_meta.csv: 2, 3",
        ),
        (lambda folder: (folder / "tile_meta.csv").write_text("id,dataset\n"), "no column 'source_wsi'"),
    ],
)
def test_what_is_missing_or_wrong_is_named(folder, tmp_path, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message):
        build(folder, tmp_path / "extras", mpp=0.5)
