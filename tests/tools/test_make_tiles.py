from __future__ import annotations

import shutil
import subprocess
import sys

import cv2
import pandas as pd
import pytest

from mhkd.evaluation.slide_level import fill_splits
from preprocess.base.errors import UserError
from preprocess.slides.table import OUTPUT_NAME, read_slides_csv
from preprocess.tiles.manifest import Manifest
from tools import make_tiles, visualize_tile_pairs


def run(slides_csv, output, *options):
    return make_tiles.main(
        [str(slides_csv), "--output-dir", str(output), "--tile-px", "256", "--workers", "0", *options]
    )


def test_from_table_to_contact_sheet(slides_csv, tmp_path, capsys):
    assert run(slides_csv, tmp_path / "tiles") == 0
    printed = capsys.readouterr().out
    assert "3 slides done, 0 skipped, 0 failed" in printed
    assert "train: 1 patients, 1 slides" in printed
    assert "mpp: slide property openslide.mpp-x/y (3 slides)" in printed
    assert run(slides_csv, tmp_path / "tiles") == 0
    assert "0 slides done, 3 skipped, 0 failed" in capsys.readouterr().out
    sheet = tmp_path / "sheet.png"
    assert visualize_tile_pairs.main([str(tmp_path / "tiles"), "--output", str(sheet), "--count", "4"]) == 0
    image = cv2.imread(str(sheet))
    assert image.shape[1] == 3 * 2 * 326
    green = (image == (60, 160, 0)).all(axis=-1)
    # Boxes in the teacher's and in the student's half of the first pair.
    assert green[:, :320].any()
    assert green[:, 326:646].any()


def test_the_output_folder_may_be_relative(slides_csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(slides_csv, "tiles") == 0
    assert "masks/a.jpg" in (tmp_path / "tiles" / "summary.html").read_text()


def test_a_table_with_scans_origins_and_no_mpp(slides_csv, slide_image, tmp_path, capsys):
    folder = tmp_path / "cohort"
    shutil.copytree(slides_csv.parent, folder)
    cv2.imwrite(str(folder / "a.png"), slide_image[..., ::-1])
    scan = cv2.resize(slide_image[:1200, :1496], None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "lr.png"), scan[..., ::-1])
    (folder / "slides.csv").write_text(
        "slide,annotation,patient,origin,student_slide,student_mpp,student_transform,stain\n"
        "a.png,a.geojson,p,bounds,lr.png,4,0.125 0 0 0 0.125 0,PAS\n"
        "b.svs,b.geojson,q,,,,,PAS\nc.svs,c.geojson,r,,,,,HE\n"
    )
    options = ("--keep-empty", "1", "--overlap", "0", "--stratify", "stain")
    with pytest.raises(UserError, match="has no tiles"):
        run(folder / "slides.csv", tmp_path / "tiles", *options)
    assert "failed: a: " in capsys.readouterr().err
    assert run(folder / "slides.csv", tmp_path / "tiles", *options, "--mpp", "0.5") == 0
    assert "--mpp (the file says none) (1 slides)" in capsys.readouterr().out
    manifest = Manifest.read(tmp_path / "tiles")
    (entry,) = (one for one in manifest.provenance["inputs"] if one["slide"] == "a")
    assert (entry["mpp"], entry["mpp_xy"], entry["mpp_source"]) == (0.5, [0.5, 0.5], "--mpp (the file says none)")
    assert (entry["annotation_origin"], entry["student_scan"]["source"]) == ("bounds", "given")
    assert entry["student_scan"]["correlation"] > 0.9
    assert {one["student_scan"] for one in manifest.provenance["inputs"] if one["slide"] != "a"} == {None}
    tile = manifest.tiles[manifest.tiles["slide"] == "a"].iloc[0]
    x, y, side = (int(tile[key] / 8) for key in ("x_l0", "y_l0", "width_l0"))
    student = cv2.imread(str(tmp_path / "tiles" / tile["student_file"]))[..., ::-1].astype(int)
    assert abs(student[2:-2, 2:-2] - scan[y : y + side, x : x + side][2:-2, 2:-2]).mean() < 2
    sheet = tmp_path / "sheet.png"
    options = ["--slide", "a", "--checkerboard", "--count", "3"]
    assert visualize_tile_pairs.main([str(tmp_path / "tiles"), "--output", str(sheet), *options]) == 0
    assert cv2.imread(str(sheet)).shape[1] == 2 * 3 * 326


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("origin", "qupath", "unknown origin 'qupath'"),
        ("student_transform", "1 0 0", "not six numbers"),
        ("student_mpp", "400", "student_mpp '400' of a.svs is not 0.05 to 64"),
    ],
)
def test_what_a_table_cannot_say(slides_csv, tmp_path, column, value, message):
    folder = tmp_path / "cohort"
    shutil.copytree(slides_csv.parent, folder)
    (folder / "slides.csv").write_text(f"slide,annotation,student_slide,{column}\na.svs,a.geojson,b.svs,{value}\n")
    with pytest.raises(UserError, match=message):
        run(folder / "slides.csv", tmp_path / "tiles", "--split", "1/0/0")


@pytest.fixture
def cohort(slides_csv, tmp_path):
    folder = tmp_path / "cohort"
    shutil.copytree(slides_csv.parent, folder)
    (folder / "broken.svs").write_text("no slide")
    with (folder / "slides.csv").open("a") as stream:
        stream.write("broken.svs,a.geojson,patient-d,train\n")
    return folder / "slides.csv"


def test_a_bad_slide_is_reported_and_the_others_are_done(cohort, tmp_path, capsys):
    assert run(cohort, tmp_path / "tiles", "--workers", "2") == 3
    captured = capsys.readouterr()
    assert "failed: broken: " in captured.err
    assert "3 slides done, 0 skipped, 1 failed" in captured.out
    manifest = Manifest.read(tmp_path / "tiles")
    assert manifest.failed_slides == ("broken",)
    assert set(manifest.tiles["slide"]) == {"a", "b", "c"}


def test_classes_are_mapped_and_what_the_map_does_not_name_is_reported(slides_csv, tmp_path, capsys):
    classes = tmp_path / "classes.yaml"
    classes.write_text("Tubule: drop\n")
    assert run(slides_csv, tmp_path / "tiles", "--class-map", str(classes)) == 0
    printed = capsys.readouterr().out
    assert "labels not in the class map, kept: Glomerulus 15" in printed
    assert "outlines:" not in printed  # nothing had to be mended
    classes.write_text("Glomerulus: Corpuscle\n")
    assert run(slides_csv, tmp_path / "tiles", "--class-map", str(classes)) == 0
    printed = capsys.readouterr().out
    assert "3 slides done, 0 skipped" in printed
    assert "not in the class map" not in printed
    assert "boxes: Corpuscle" in printed
    with pytest.raises(UserError, match="--class-map does what"):
        run(slides_csv, tmp_path / "tiles", "--class-map", str(classes), "--merge-labels", "x")


def test_only_bad_slides(cohort, tmp_path, capsys):
    for name in "abc":
        (cohort.parent / f"{name}.geojson").write_text("{")
    assert run(cohort, tmp_path / "tiles") == 1
    assert capsys.readouterr().err.count("failed: ") == 4
    assert not (tmp_path / "tiles" / "manifest.json").exists()


def test_errors_are_one_line_on_the_command_line(tmp_path):
    command = [sys.executable, make_tiles.__file__, str(tmp_path / "none.csv"), "--output-dir", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_neutral_names_are_all_that_is_written(slides_csv, tmp_path, capsys):
    folder = tmp_path / "Smith"
    shutil.copytree(slides_csv.parent, folder)
    table = folder / "slides.csv"
    rows = table.read_text().replace("patient-", "Jones-")
    for name in "abc":
        for suffix in (".svs", ".geojson"):
            (folder / f"{name}{suffix}").rename(folder / f"Smith {name}{suffix}")
        rows = rows.replace(f"\n{name}.svs,{name}.", f"\nSmith {name}.svs,Smith {name}.")
    (folder / "Smith d.svs").write_text("Smith, no slide")
    table.write_text(rows + "Smith d.svs,Smith a.geojson,Jones-d,train\n")
    out, key = tmp_path / "tiles", tmp_path / "key.csv"
    options = ("--anonymize", "--key", str(key))
    assert run(table, out, *options, "--dry-run") == 3
    assert run(table, out, *options) == 3
    told = "".join(str(path.relative_to(out)) for path in out.rglob("*"))
    told += "".join(path.read_bytes().decode("latin-1") for path in out.rglob("*") if path.is_file())
    assert not [secret for secret in ("Smith", "Jones", str(tmp_path)) if secret in told]
    named = pd.read_csv(key)
    assert named["patient"].tolist() == ["Jones-a", "Jones-b", "Jones-c", "Jones-d"]
    manifest = Manifest.read(out)
    assert set(manifest.tiles["slide"]) == set(named["name"][:3])
    assert set(manifest.tiles["patient"]) == {f"patient-of-{name}" for name in named["name"][:3]}
    assert manifest.failed_slides == (named["name"][3],)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}
    assert run(table, out, *options) == 3
    assert "0 slides done, 3 skipped, 1 failed" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}
    # The real table is known by the content of its slides.
    slides = read_slides_csv(table)
    filled = fill_splits(slides.assign(split=None, patient=None), manifest.tiles)
    assert filled["split"].tolist()[:3] == slides["split"].tolist()[:3]
    named_so = fill_splits(slides, manifest.tiles)[[OUTPUT_NAME, "patient"]].iloc[:3]
    assert set(named_so[OUTPUT_NAME]) == set(manifest.tiles["slide"])
    assert set(named_so["patient"]) == set(manifest.tiles["patient"])


def test_slides_that_nobody_annotated_have_neutral_names_too(slides_csv, tmp_path):
    table = slides_csv.with_name("unlabelled.csv")
    table.write_text("slide,annotation,split,labelled\na.svs,a.geojson,train,yes\nb.svs,,train,no\n")
    assert run(table, tmp_path / "tiles", "--anonymize") == 0
    tiles = Manifest.read(tmp_path / "tiles").tiles
    assert set(tiles["labelled"]) == {True, False}
    assert all(tile.startswith("slide-") for tile in tiles["tile_id"])


def test_neutral_names_are_not_mixed_with_others(slides_csv, tmp_path):
    assert run(slides_csv, tmp_path / "tiles") == 0
    with pytest.raises(UserError, match="slides under their own names are there"):
        run(slides_csv, tmp_path / "tiles", "--anonymize")
    with pytest.raises(UserError, match="the key would lie among the outputs"):
        run(slides_csv, tmp_path / "tiles", "--anonymize", "--key", str(tmp_path / "tiles" / "key.csv"))
    assert run(slides_csv, tmp_path / "tiles", "--anonymize", "--prune") == 0
    assert not list((tmp_path / "tiles").rglob("a*"))


def test_slides_of_one_name_are_cut_apart_and_never_replaced(slides_csv, tmp_path, capsys):
    for name, new in (("a", "x/1.svs"), ("b", "y/1.svs"), ("c", "y/1.tif")):
        (tmp_path / new).parent.mkdir(exist_ok=True)
        shutil.copy(slides_csv.with_name(f"{name}.svs"), tmp_path / new)
    shutil.copy(slides_csv.with_name("a.geojson"), tmp_path)
    table, header = tmp_path / "slides.csv", "slide,annotation,split\n"
    table.write_text(header + "x/1.svs,a.geojson,train\ny/1.svs,a.geojson,val\ny/1.tif,a.geojson,test\n")
    assert run(table, tmp_path / "tiles") == 0
    tiles = Manifest.read(tmp_path / "tiles").tiles
    assert tiles["slide"].nunique() == tiles["slide_path"].nunique() == 3
    table.write_text(header + "x/1.svs,a.geojson,train\n")
    assert run(table, tmp_path / "one") == 0
    table.write_text(header + "y/1.svs,a.geojson,train\n")
    with pytest.raises(UserError, match=r"slides/1\.json is of another slide of this name"):
        run(table, tmp_path / "one")
    # The same slide in a new place is the same, and so is another one in the place of the old.
    (tmp_path / "x").rename(tmp_path / "z")
    table.write_text(header + "z/1.svs,a.geojson,train\n")
    assert run(table, tmp_path / "one", "--overlap", "0") == 0
    shutil.copy(slides_csv.with_name("c.svs"), tmp_path / "z" / "1.svs")
    assert run(table, tmp_path / "one") == 0
