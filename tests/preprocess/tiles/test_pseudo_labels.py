from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from preprocess.base.errors import UserError
from preprocess.slides.table import read_slides_csv
from preprocess.tiles.contact_sheet import DETECTED_RGB, contact_sheet
from preprocess.tiles.manifest import BOXES_COLUMNS, Manifest
from preprocess.tiles.pairs import PairSpec
from preprocess.tiles.pseudo_labels import PseudoLabels, add_pseudo_labels
from preprocess.tiles.tile_set import plan_jobs, tile_slides, write_manifest

SPEC = PairSpec(tile_px=256, empty_ratio=0.1)


@pytest.fixture(scope="module")
def manifest(slides_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The slides a and c to train on, of which c is not labelled, and b to validate on."""
    table = read_slides_csv(slides_csv).assign(split=["train", "val", "train"], labelled=[True, True, False])
    root = tmp_path_factory.mktemp("tiles")
    results, _ = tile_slides(plan_jobs(table, root, SPEC, fractions=(0.7, 0.15, 0.15)), 0)
    return write_manifest(results, root)


def boxes_of_discs(discs: np.ndarray) -> list[tuple[float, float, float, float]]:
    return [(x - r, y - r, x + r, y + r) for x, y, r in discs.tolist()]


def labels_of(root: Path, discs: np.ndarray, score: float = 0.9, **more: object) -> PseudoLabels:
    found = [("Glomerulus", box, score) for box in boxes_of_discs(discs)]
    return PseudoLabels(root, {"c": found, **more}, "hash of the teacher", 0.6, 0.2, {"thresholds": {}})


def test_labels_that_are_written_are_read(tmp_path: Path, discs: np.ndarray) -> None:
    made = labels_of(tmp_path, discs)
    made.write()
    read = PseudoLabels.read(tmp_path)
    assert (read.slides, read.model_sha256, read.sure_thresh, read.unsure_thresh) == (
        made.slides,
        "hash of the teacher",
        0.6,
        0.2,
    )
    before = (tmp_path / "labels.json").read_bytes()
    read.write()
    assert (tmp_path / "labels.json").read_bytes() == before


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("slides/c.json", '{"boxes": []}', r"c\.json: not the labels that labels\.json was written for"),
        ("slides/c.json", "[]", r"c\.json: damaged"),
        ("slides/c.json", None, r"c\.json: no such labels"),
        ("labels.json", None, r"labels\.json: no such labels"),
        ("labels.json", '{"schema_version": 9}', "schema version 9"),
        ("labels.json", '{"schema_version": 1}', "no header of labels"),
        ("labels.json", "{", r"labels\.json: damaged"),
    ],
)
def test_labels_that_are_not_whole_are_one_line(tmp_path, discs, file, text, reason) -> None:
    labels_of(tmp_path, discs).write()
    path = tmp_path / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=reason):
        PseudoLabels.read(tmp_path)


def test_an_interrupted_writer_leaves_no_header(tmp_path: Path, discs: np.ndarray, monkeypatch) -> None:
    labels = labels_of(tmp_path, discs)
    labels.write()
    monkeypatch.setattr("preprocess.tiles.pseudo_labels.sha256_of", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        labels.write()
    assert not (tmp_path / "labels.json").exists()


def test_detected_boxes_are_cut_as_drawn_ones_are(manifest: Manifest, discs: np.ndarray, tmp_path: Path) -> None:
    """The same discs on an annotated slide leave the same boxes, but for their corners' rounding."""
    made = add_pseudo_labels(manifest, labels_of(tmp_path, discs))
    assert made.has_pseudo_labels
    assert list(made.boxes.columns) == [*BOXES_COLUMNS, "score"]
    found = {}
    for slide in "ac":
        tiles = made.tiles[made.tiles["slide"] == slide]
        boxes = made.boxes[made.boxes["tile_id"].isin(tiles["tile_id"])]
        place = boxes["tile_id"].str.removeprefix(f"{slide}_")
        found[slide] = boxes.assign(place=place, x=boxes["x0_l0"].round(), y=boxes["y0_l0"].round())
        assert tiles["num_boxes"].sum() == (~boxes["ignore"]).sum() > 0
    whole = [
        set(map(tuple, part.loc[part["visible_fraction"] == 1, ["place", "x", "y"]].values)) for part in found.values()
    ]
    assert whole[0] == whole[1]
    assert set(found["a"]["score"]) == {1.0}
    assert set(found["c"]["score"]) == {0.9}


def test_what_is_not_sure_is_to_be_ignored(manifest: Manifest, discs: np.ndarray, tmp_path: Path) -> None:
    made = add_pseudo_labels(manifest, labels_of(tmp_path, discs, score=0.59))
    boxes = made.boxes[made.boxes["tile_id"].str.startswith("c_")]
    assert len(boxes) > 0
    assert boxes["ignore"].all()
    assert made.tiles.loc[made.tiles["slide"] == "c", "num_boxes"].eq(0).all()


def test_tiles_without_a_box_are_thinned_as_those_of_annotated_slides(manifest, discs, tmp_path) -> None:
    before = manifest.tiles[manifest.tiles["slide"] == "c"]
    made = add_pseudo_labels(manifest, labels_of(tmp_path, discs))
    after = made.tiles[made.tiles["slide"] == "c"]
    empty = ~after["tile_id"].isin(made.boxes["tile_id"])
    assert len(after) < len(before)
    assert 0 < empty.sum() <= np.ceil(SPEC.empty_ratio * max(8, (~empty).sum()))
    pd.testing.assert_frame_equal(made.split("val").tiles, manifest.split("val").tiles)


def test_a_placebo_gives_every_slide_the_labels_of_another(manifest, discs, tmp_path) -> None:
    twin = manifest.tiles[manifest.tiles["slide"] == "c"]
    twin = twin.assign(slide="d", tile_id=twin["tile_id"].str.replace("c_", "d_"))
    both = Manifest(**{**vars(manifest), "tiles": pd.concat([manifest.tiles, twin], ignore_index=True)})
    labels = labels_of(tmp_path, discs, d=[])
    for shuffled, slide in ((False, "c"), (True, "d")):
        made = add_pseudo_labels(both, labels, shuffled=shuffled)
        detected = made.boxes[made.boxes["score"] < 1]
        assert set(detected["tile_id"].str[0]) == {slide}


@pytest.mark.parametrize(
    ("slides", "reason"),
    [({}, "no labels of the slide c"), ({"c": [("Tuft", (0, 0, 9, 9), 0.9)]}, "class 'Tuft', and the tiles have")],
)
def test_labels_that_do_not_fit_the_tiles_are_refused(manifest, tmp_path, slides, reason) -> None:
    with pytest.raises(UserError, match=reason):
        add_pseudo_labels(manifest, PseudoLabels(tmp_path, slides, "", 0.6, 0.2, {}))


def test_the_contact_sheet_shows_them_in_a_colour_of_their_own(manifest, discs, tmp_path) -> None:
    def violet(sheet: np.ndarray) -> int:
        return int((sheet == DETECTED_RGB).all(axis=2).sum())

    plain = contact_sheet(manifest, count=2, slide="c")  # no box: unlabelled pairs are shown as they are
    labelled = contact_sheet(add_pseudo_labels(manifest, labels_of(tmp_path, discs)), count=2, slide="c")
    assert violet(labelled) > 100 + violet(plain) == 100


def test_unlabelled_tiles_are_no_background_for_anybody(manifest: Manifest) -> None:
    tiles = manifest.tiles
    assert tiles.groupby("slide")["labelled"].first().to_dict() == {"a": True, "b": True, "c": False}
    assert not manifest.boxes["tile_id"].str.startswith("c_").any()
    assert set(manifest.labelled().tiles["slide"]) == {"a", "b"}
    train, unlabelled = (
        json.loads((manifest.root / f"coco_{name}_student.json").read_text()) for name in ("train", "unlabelled")
    )
    assert {image["tile_id"][0] for image in train["images"]} == {"a"}
    assert {image["tile_id"][0] for image in unlabelled["images"]} == {"c"}
    assert unlabelled["annotations"] == []
