from __future__ import annotations

import shutil
import subprocess
import sys

import cv2
import pytest

from preprocess.errors import UserError
from preprocess.manifest import Manifest
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
    assert manifest.provenance["failed"] == ["broken"]
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
