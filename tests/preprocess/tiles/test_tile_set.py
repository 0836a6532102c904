from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from preprocess.annotations.class_map import ClassMap
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.jobs.job_result import JobResult
from preprocess.slides.table import read_slides_csv
from preprocess.tiles import tile_set
from preprocess.tiles.manifest import Manifest
from preprocess.tiles.pairs import PairSpec
from preprocess.tiles.splits import assign_splits
from preprocess.tiles.tile_set import plan_jobs, report_removed_slides, tile_slides, write_manifest

SPEC = PairSpec(tile_px=256)
FRACTIONS = (0.7, 0.15, 0.15)


def make(table, root: Path, workers: int = 0, **options) -> Manifest:
    results, _ = tile_slides(plan_jobs(table, root, SPEC, fractions=FRACTIONS, **options), workers)
    return write_manifest(results, root)


@pytest.fixture
def table(slides_csv):
    return read_slides_csv(slides_csv)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_same_bytes_whatever_the_number_of_workers(table, tmp_path):
    make(table, tmp_path / "one", workers=0)
    make(table, tmp_path / "two", workers=2)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name]] == []


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (2, 2), (5, 5)])
def test_workers_without_a_slide_of_their_own_help_on_the_one_there_is(table, tmp_path, monkeypatch, workers, threads):
    used = []

    def run_cohort(function, items, *_, **__):
        used.append(function.keywords["threads"])
        return [JobResult(item, error="not cut") for item in items]

    monkeypatch.setattr(tile_set, "run_cohort", run_cohort)
    tile_slides(plan_jobs(table[:1], tmp_path, SPEC, fractions=FRACTIONS), workers)
    assert used == [threads]


def test_the_manifest_and_coco_say_the_same(table, tmp_path):
    made = make(table, tmp_path)
    manifest = Manifest.read(tmp_path)
    assert manifest.tiles["split"].unique().tolist() == ["train", "val", "test"]
    assert manifest.tiles["patient"].unique().tolist() == ["patient-a", "patient-b", "patient-c"]
    assert (manifest.root / manifest.tiles["slide_path"][0]).samefile(table["slide"][0])
    assert len(manifest.boxes) == len(made.boxes)
    assert manifest.provenance["inputs"][0]["mpp_source"] == "slide property openslide.mpp-x/y"
    for side, px in (("teacher", 256), ("student", 64)):
        coco = json.loads((tmp_path / f"coco_train_{side}.json").read_text())
        train = manifest.split("train")
        assert [image["tile_id"] for image in coco["images"]] == train.tiles["tile_id"].tolist()
        assert {(image["width"], image["height"]) for image in coco["images"]} == {(px, px)}
        assert [a["iscrowd"] for a in coco["annotations"]] == train.boxes["ignore"].astype(int).tolist()
        tile, box = train.tiles.iloc[0], train.boxes.iloc[0]
        region = Region(tile["x_l0"], tile["y_l0"], tile["width_l0"], tile["height_l0"])
        x0, y0, x1, y1 = region.to_px(box[["x0_l0", "y0_l0", "x1_l0", "y1_l0"]].astype(float), Size(px, px))[0]
        assert coco["annotations"][0]["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=2e-3)
        assert coco["categories"] == [{"id": 1, "name": "Glomerulus"}]


def test_regions_to_ignore_are_crowds_of_every_class(table, tmp_path):
    path = tmp_path / "two.geojson"
    features = json.loads(Path(table["annotation"][0]).read_text())["features"]
    for feature, name in zip(features, ("a", "b", "Artefact", "a", "b"), strict=True):
        feature["properties"]["classification"]["name"] = name
    path.write_text(json.dumps(features))
    table["annotation"] = str(path)
    manifest = make(table, tmp_path, classes=ClassMap.of({"a": "A", "b": "B", "Artefact": "ignore"}))
    assert manifest.labels == ["A", "B"]
    assert manifest.provenance["parameters"]["classes"] == {"a": "A", "b": "B", "Artefact": "ignore"}
    coco = json.loads((tmp_path / "coco_val_student.json").read_text())
    crowds = [(a["image_id"], a["category_id"], tuple(a["bbox"])) for a in coco["annotations"] if a["iscrowd"]]
    # The disc at (512, 800) lies on four tiles, so that each has it once as A and once as B.
    around = [crowd for crowd in crowds if (crowd[0], 3 - crowd[1], crowd[2]) in crowds]
    assert len(around) == 2 * len({image for image, _, _ in around}) > 0
    assert Manifest.read(tmp_path).labels == ["A", "B"]


def test_overlap_and_thinning_are_for_train_only(table, tmp_path):
    tiles = make(table, tmp_path).tiles
    counts = tiles["split"].value_counts()
    assert counts["val"] == counts["test"]
    assert counts["train"] != counts["val"]
    assert tiles[tiles["split"] == "val"]["x_l0"].unique().tolist() == [0, 512, 988]


def test_finished_slides_are_skipped(table, tmp_path):
    make(table, tmp_path)
    before = contents(tmp_path)
    results, num_skipped = tile_slides(plan_jobs(table, tmp_path, SPEC, fractions=FRACTIONS), 0)
    assert num_skipped == 3
    write_manifest(results, tmp_path)
    assert contents(tmp_path) == before


def test_the_manifest_goes_before_its_tiles_are_replaced(table, tmp_path):
    make(table, tmp_path)
    tile_slides(plan_jobs(table, tmp_path, PairSpec(tile_px=512), fractions=FRACTIONS), 0)
    with pytest.raises(UserError, match="no manifest"):
        Manifest.read(tmp_path)


def test_a_run_that_changes_nothing_leaves_the_manifest_alone_and_one_that_does_not(table, tmp_path):
    make(table, tmp_path)
    header = tmp_path / "manifest.json"
    os.utime(header, ns=(10**18, 10**18))
    (tmp_path / "coco_val_teacher.json").unlink()
    make(table, tmp_path)
    assert header.stat().st_mtime_ns == 10**18
    assert (tmp_path / "coco_val_teacher.json").is_file()
    # The annotation is exported again: one glomerulus is gone.
    features = json.loads(Path(table["annotation"][0]).read_text())["features"]
    (tmp_path / "again.geojson").write_text(json.dumps(features[1:]))
    table.loc[0, "annotation"] = str(tmp_path / "again.geojson")
    make(table, tmp_path)
    assert header.stat().st_mtime_ns != 10**18


def test_who_was_in_which_split_is_stated_beside_the_manifest(table, tmp_path):
    table.loc[1, "patient"] = table.loc[0, "patient"]
    table.loc[1, "split"] = table.loc[0, "split"]
    make(table, tmp_path)
    text = "patient,split,num_slides\npatient-a,train,2\npatient-c,test,1\n"
    assert (tmp_path / "splits.csv").read_text() == text


def test_the_manifest_goes_before_tiles_of_a_removed_slide_do(table, tmp_path, monkeypatch):
    make(table, tmp_path)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tile_set.shutil, "rmtree", interrupt)
    jobs = plan_jobs(table[:2], tmp_path, SPEC, fractions=FRACTIONS)
    with pytest.raises(KeyboardInterrupt):
        report_removed_slides(jobs, tmp_path, prune=True)
    with pytest.raises(UserError, match="no manifest"):
        Manifest.read(tmp_path)


def test_slides_without_patient_or_split(table, tmp_path):
    table["split"] = float("nan")
    table["patient"] = None
    fractions = (0.7, 0.3, 0)
    jobs = plan_jobs(table, tmp_path, SPEC, fractions=fractions)
    assert [job.patient for job in jobs] == ["a", "b", "c"]
    assert [job.split for job in jobs] == assign_splits(["a", "b", "c"], fractions, SPEC.seed)
    table["patient"] = ["x", None, None]
    assert plan_jobs(table, tmp_path, SPEC, fractions=(1, 0, 0))[0].patient == "x"


def test_a_column_to_stratify_by_gives_exact_shares(table, tmp_path):
    table["split"] = float("nan")
    table["stain"] = "PAS"
    jobs = plan_jobs(table, tmp_path, SPEC, fractions=FRACTIONS, stratify="stain")
    assert {job.split for job in jobs} == {"train", "val", "test"}
    with pytest.raises(UserError, match="no column 'colour' to stratify by"):
        plan_jobs(table, tmp_path, SPEC, fractions=FRACTIONS, stratify="colour")


def test_half_a_split_is_refused(table, tmp_path):
    table.loc[1, "split"] = None
    with pytest.raises(UserError, match=r"no split is given for .*b\.svs"):
        plan_jobs(table, tmp_path, SPEC, fractions=FRACTIONS)


def test_splits_without_tiles_or_objects_are_refused(table, tmp_path):
    with pytest.raises(UserError, match="the split 'train' has no objects"):
        make(table, tmp_path, classes=ClassMap.choose(["Tubule"], None))
    table.loc[1, "slide"] = str(tmp_path / "b.svs")
    with pytest.raises(UserError, match="the split 'val' has no tiles"):
        make(table, tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def unlabelled(slides_csv: Path, name: str, **columns: object):
    """The three slides of ``slides_csv`` with columns replaced, through a file, as a user writes it."""
    table = read_slides_csv(slides_csv)[["slide", "annotation", "patient", "split"]].assign(**columns)
    path = slides_csv.with_name(f"{name}.csv")
    table.to_csv(path, index=False)
    return read_slides_csv(path)


def test_a_slide_without_annotation_is_an_error_unless_its_row_says_so(slides_csv, tmp_path):
    options = {"split": ["train", "train", "val"]}
    table = unlabelled(slides_csv, "silent", **options)
    table.loc[1, "annotation"] = float("nan")
    results, _ = tile_slides(plan_jobs(table, tmp_path, SPEC, fractions=FRACTIONS), 0)
    assert [result.item.name for result in results if result.error] == ["b"]
    assert "write no in the column labelled" in results[1].error
    table = unlabelled(slides_csv, "said", **options, labelled=["yes", "no", ""])
    made = make(table, tmp_path)  # what is there of an annotation is not read
    assert made.tiles.groupby("slide")["labelled"].first().to_dict() == {"a": True, "b": False, "c": True}
    tiles = made.tiles[made.tiles["slide"] == "b"]
    assert len(tiles) > 10
    assert (tiles["tissue"] >= SPEC.min_tissue).all()
    assert tiles["num_boxes"].eq(0).all()
    # Said otherwise, the slide is cut again.
    assert make(unlabelled(slides_csv, "again", **options), tmp_path).tiles["labelled"].all()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"labelled": ["yes", "no", "yes"]}, r"b\.svs is not labelled, and in the split val"),
        ({"labelled": ["yes", "maybe", "yes"]}, "labelled is 'maybe'"),
    ],
)
def test_what_a_table_cannot_say_of_labels(slides_csv, columns, reason):
    with pytest.raises(UserError, match=reason):
        unlabelled(slides_csv, "wrong", **columns)
    assert len(read_slides_csv(slides_csv.with_name("wrong.csv"), for_training=False)) == 3


def test_unlabelled_slides_are_for_training_and_so_is_all_of_their_patients(slides_csv, tmp_path):
    def splits(**columns):
        jobs = plan_jobs(unlabelled(slides_csv, "dealt", **columns), tmp_path, SPEC, fractions=(0, 1, 0))
        return [job.split for job in jobs]

    said = {"split": "", "labelled": ["no", "yes", "yes"]}
    assert splits(patient=["p", "p", "q"], **said) == ["train", "train", "val"]
    assert splits(split=["", "train", "val"], labelled=["no", "yes", "yes"]) == ["train", "train", "val"]
    with pytest.raises(UserError, match="patient 'p' is in two splits: train and val"):
        splits(patient=["p", "q", "p"], split=["", "train", "val"], labelled=["no", "yes", "yes"])
