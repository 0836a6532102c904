from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely.affinity

from preprocess.annotations.class_map import ClassMap
from preprocess.base import provenance
from preprocess.base.errors import UserError
from preprocess.slides import files
from preprocess.tiles import writer
from preprocess.tiles.pairs import PairSpec
from preprocess.tiles.writer import SlideJob, finished_record, write_slide


@pytest.fixture
def job(svs_slide, geojson, tmp_path):
    spec = PairSpec(tile_px=256, keep_empty=1.0)
    return SlideJob(slide=svs_slide, annotation=geojson, mpp=None, patient="p", split="train", root=tmp_path, spec=spec)


def files_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_slide_on_disk(job):
    record = write_slide(job)
    tile = record["tiles"][0]
    assert tile["teacher_file"] == "tiles/discs/teacher/0_0.jpg"
    assert cv2.imread(str(job.root / tile["teacher_file"])).shape == (256, 256, 3)
    assert cv2.imread(str(job.root / tile["student_file"])).shape == (64, 64, 3)
    assert record["labels"] == {"Glomerulus": 5}
    images = {tile[f"{side}_file"] for tile in record["tiles"] for side in ("teacher", "student")}
    assert files_in(job.root) == {"slides/discs.json", "masks/discs.jpg", *images}
    assert json.loads(job.record_file.read_text()) == record == finished_record(job)


def test_annotations_of_another_frame_are_refused_and_leave_what_was_cut(job, tmp_path):
    write_slide(job)
    before = files_in(job.root)
    content = json.loads(job.annotation.read_text())
    for feature in content["features"]:
        shape = shapely.affinity.scale(shapely.geometry.shape(feature["geometry"]), 3, 3, origin=(0, 0))
        feature["geometry"] = shapely.geometry.mapping(shape)
    (moved := tmp_path / "of_60x.geojson").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"of_60x.geojson: \d+ % of its 5 outlines lie off the slide"):
        write_slide(replace(job, annotation=moved))
    assert files_in(job.root) == before | {moved.name}
    allowed = replace(job, annotation=moved, spec=replace(job.spec, max_misplaced=1.0))
    assert write_slide(allowed)["outlines"]["off the slide"] > 0


@pytest.mark.parametrize(
    "change", [{"spec": PairSpec(tile_px=128)}, {"mpp": 0.6}, {"classes": ClassMap.of({"Glomerulus": "x"})}]
)
def test_another_way_of_cutting_is_not_finished(job, change):
    write_slide(job)
    assert finished_record(replace(job, **change)) is None


def test_changed_or_lost_files_are_not_finished(job, tmp_path):
    annotation = tmp_path / "own.geojson"
    annotation.write_text(job.annotation.read_text())
    job = replace(job, annotation=annotation)
    record = write_slide(job)
    annotation.write_text(annotation.read_text() + " ")
    assert finished_record(job) is None
    record = write_slide(job)
    assert finished_record(job) == record
    (job.root / record["tiles"][0]["student_file"]).unlink()
    assert finished_record(job) is None
    write_slide(job)
    job.record_file.write_text("{")
    assert finished_record(job) is None


def test_another_decoder_or_reader_is_not_finished(job, monkeypatch):
    write_slide(job)
    assert finished_record(replace(job, reader="openslide")) is None
    for name in ("imagecodecs", "opencv", "openslide", "pillow", "tifffile"):
        versions = provenance.codecs() | {name: "0"}
        with monkeypatch.context() as patch:
            patch.setattr(writer, "codecs", lambda versions=versions: versions)
            assert finished_record(job) is None
    assert finished_record(job) is not None


def test_every_file_of_a_slide_counts(job, monkeypatch, tmp_path):
    companion = tmp_path / "companion.dat"
    companion.write_text("1")
    monkeypatch.setattr(files, "slide_files", lambda path: [path, companion] if path == job.slide else [path])
    monkeypatch.setattr(files.Path, "relative_to", lambda path, _: Path(path.name))
    write_slide(job)
    assert finished_record(job) is not None
    companion.write_text("22")
    assert finished_record(job) is None


@pytest.mark.parametrize("what", ["slide", "annotation"])
def test_a_slide_that_changes_while_it_is_cut_is_not_finished(job, monkeypatch, tmp_path, what):
    slide, annotation = tmp_path / "own.svs", tmp_path / "own.geojson"
    slide.write_bytes(job.slide.read_bytes())
    annotation.write_text(job.annotation.read_text())
    job = replace(job, slide=slide, annotation=annotation)
    sync_folder = writer.sync_folder

    def change(folder):
        path = slide if what == "slide" else annotation
        path.write_bytes(path.read_bytes() + b" ")
        sync_folder(folder)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "sync_folder", change)
        with pytest.raises(UserError, match=r"own\.svs: changed while it was read \(run the same command again"):
            write_slide(job)
    assert files_in(job.root) == {"own.svs", "own.geojson"}
    assert finished_record(job) is None
    assert write_slide(job) == finished_record(job)


def test_cutting_again_leaves_nothing_of_before(job):
    write_slide(job)
    write_slide(replace(job, spec=PairSpec(tile_px=512, keep_empty=0.0)))
    again = files_in(job.root)
    record = json.loads(job.record_file.read_text())
    assert len(again) == 2 * len(record["tiles"]) + 2


def test_classes_are_mapped_and_counted(job):
    assert write_slide(replace(job, classes=ClassMap.choose(["Tubule"], None)))["dropped_labels"] == {"Glomerulus": 5}
    record = write_slide(replace(job, classes=ClassMap.choose(None, "Object")))
    assert {box["label"] for box in record["boxes"]} == {"Object"}
    record = write_slide(replace(job, classes=ClassMap.of({"Tubule": "drop"})))
    assert (record["labels"], record["unmapped_labels"]) == ({"Glomerulus": 5}, {"Glomerulus": 5})
    record = write_slide(replace(job, classes=ClassMap.of({"Glomerulus": "ignore"})))
    assert record["labels"] == {}
    assert all(box["ignore"] for box in record["boxes"])
    assert sum(tile["num_boxes"] for tile in record["tiles"]) == 0


def test_annotations_that_need_the_slide_get_it(job, discs, tmp_path):
    mask = np.zeros((300, 375), np.uint8)  # the slide reduced by 4
    for x, y, radius in (discs / 4).astype(int).tolist():
        cv2.circle(mask, (x, y), radius, 255, cv2.FILLED)
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    boxes = write_slide(replace(job, annotation=tmp_path / "mask.png"))["boxes"]
    expected = write_slide(job)["boxes"]
    whole = [
        [box[side] for side in ("x0_l0", "y0_l0", "x1_l0", "y1_l0")] for box in boxes if box["visible_fraction"] == 1
    ]
    for x, y, radius in discs:
        outline = (x - radius, y - radius, x + radius, y + radius)
        assert min(np.abs(np.subtract(box, outline)).max() for box in whole) <= 4
    assert len(whole) == sum(box["visible_fraction"] == 1 for box in expected) > 0
    runs = " ".join(f"{1200001 + 1200 * column} 600" for column in range(20))
    (tmp_path / "table.csv").write_text(f"id,encoding\nother,1 5\ndiscs,{runs}\n")
    assert write_slide(replace(job, annotation=tmp_path / "table.csv"))["labels"] == {"Unclassified": 1}


def test_what_was_mended_and_left_out_is_in_the_record(job, tmp_path):
    features = json.loads(job.annotation.read_text())["features"]
    bow_tie = [[[100, 100], [160, 160], [160, 100], [100, 140], [100, 100]]]
    extra = [{"type": "Polygon", "coordinates": bow_tie}, {"type": "Point", "coordinates": [1, 2]}]
    features += [{**features[0], "geometry": geometry} for geometry in (*extra, features[1]["geometry"])]
    annotation = tmp_path / "more.geojson"
    annotation.write_text(json.dumps(features))
    record = write_slide(replace(job, annotation=annotation))
    assert {name: count for name, count in record["outlines"].items() if count} == {
        "repaired": 1,
        "drawn twice": 1,
        "below 20 um": 1,
    }
    assert record["unused"] == {"Point": 1}
    assert record["labels"] == {"Glomerulus": 6}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("interruption", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_slide_leaves_no_file(job, monkeypatch, interruption, threads):
    write_bytes, count = writer._write_bytes, []

    def stop_at_the_fifth(path, data):
        count.append(path)
        if len(count) == 5:
            raise interruption
        write_bytes(path, data)

    monkeypatch.setattr(writer, "_write_bytes", stop_at_the_fifth)
    with pytest.raises(type(interruption)):
        write_slide(job, threads)
    assert files_in(job.root) == set()
    assert os.listdir(job.root / "tiles") == []


def test_any_number_of_threads_makes_the_same_bytes(job, tmp_path):
    record = write_slide(job)
    expected = {name: (job.root / name).read_bytes() for name in files_in(job.root)}
    assert len(expected) > 20
    job = replace(job, root=tmp_path / "again")
    assert write_slide(job, threads=3) == record
    assert {name: (job.root / name).read_bytes() for name in files_in(job.root)} == expected


def test_everything_is_on_the_disk_before_the_folder_gets_its_name(job, monkeypatch):
    synced, replace_folder = set(), os.replace

    def check(source, target):
        if Path(target) == job.tiles_folder:
            assert {path.stat().st_ino for path in (source, *source.rglob("*"))} <= synced
        replace_folder(source, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(os, "replace", check)
    write_slide(job, threads=2)
    assert len(synced) > 20


def test_a_bad_slide_keeps_what_was_finished(job, tmp_path):
    record = write_slide(job)
    with pytest.raises(UserError, match="no annotation is given"):
        write_slide(replace(job, annotation=None))
    with pytest.raises(UserError, match="no such slide"):
        write_slide(replace(job, slide=tmp_path / "discs.svs"))
    assert finished_record(job) == record
