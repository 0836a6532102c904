from __future__ import annotations

import errno
import json
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from mhkd.evaluation.slide_level import read_truth
from mhkd.inference import formats, slide_runner
from mhkd.inference.formats import FORMATS, Format
from mhkd.inference.predictor import SlidePredictor
from mhkd.inference.slide_runner import describe, run_job
from preprocess.base.errors import UserError
from preprocess.slides.search import SlideFile
from preprocess.slides.table import read_slides_csv
from preprocess.synthetic.svs import write_svs
from tests.blobs import DISCS, BlobDetector, boxes_of, damage_tile, draw, write_blob_slide
from tests.jobs import contents, job_of, search
from tests.scn import write_scn

ALL = tuple(FORMATS)


def test_a_slide_leaves_files_that_agree(tmp_path):
    result = search(write_blob_slide(tmp_path / "case 1.svs"), tmp_path / "out", formats=ALL)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"case 1.json", "case 1.weak.csv", *(f"case 1{form.suffix}" for form in FORMATS.values())}
    summary = json.loads((tmp_path / "out" / "case 1.json").read_text())
    assert summary == result.summary
    assert set(summary["files"].values()) == names - {"case 1.json"}
    assert summary["detections"] == {"total": len(DISCS), "by_class": {"glomerulus": len(DISCS)}}
    assert summary["density_per_mm2"] == pytest.approx(len(DISCS) / summary["tissue_mm2"], rel=1e-3)
    assert summary["mpp"] == 0.5
    table = pd.read_csv(tmp_path / "out" / "case 1.csv")
    assert len(table) == len(DISCS)
    assert set(table["fragment"]) == {1}
    assert summary["fragments"] == [{"number": 1, "tissue_mm2": summary["tissue_mm2"], "detections": len(DISCS)}]
    assert len(json.loads((tmp_path / "out" / "case 1.geojson").read_text())["features"]) == len(DISCS)
    assert f"found {len(DISCS)} glomeruli with a score of 0.5 or more" in describe(result.summary)


def test_every_piece_of_tissue_has_its_count(tmp_path):
    image = draw()
    cv2.line(image, (1240, 0), (1240, 1500), (255, 255, 255), 160)  # to the right of it lie two of the six
    result = search(write_svs(tmp_path / "a.svs", image, mpp=0.5), tmp_path)
    table = pd.read_csv(tmp_path / "a.csv")
    assert [piece["detections"] for piece in result.summary["fragments"]] == [4, 2]
    assert (table["fragment"] == np.where(table["center_x_l0"] < 1240, 1, 2)).all()


def test_outputs_tell_nothing_of_the_slide_but_its_file_name(tmp_path):
    search(write_blob_slide(tmp_path / "a.svs"), tmp_path / "out", formats=ALL)
    for name, data in contents(tmp_path / "out").items():
        assert b"ScanScope" not in data, name
        assert str(tmp_path).encode() not in data, name


def test_a_neutral_name_stands_in_every_output_and_in_the_names_of_the_files(tmp_path):
    secret = SlideFile(write_blob_slide(tmp_path / "Smith-1947.svs"), patient="patient-of-slide-1", alias="slide-1")
    result = search(secret, tmp_path / "out", formats=ALL)
    for name, data in contents(tmp_path / "out").items():
        assert name.startswith("slide-1.")
        assert b"Smith" not in data, name
    assert (result.summary["slide"], result.summary["anonymized"]) == ("slide-1.svs", True)
    # The ids are hashes, and a name that can be guessed can be hashed.
    open_ids = pd.read_csv(tmp_path / "out" / "slide-1.csv")["id"]
    search(secret.path, tmp_path / "named")
    assert not set(open_ids) & set(pd.read_csv(tmp_path / "named" / "Smith-1947.csv")["id"])


@pytest.mark.parametrize("origin", ["bounds", "slide"])
def test_geojson_counts_from_what_was_scanned_or_from_the_slide(tmp_path, origin):
    write_scn(tmp_path / "a.scn", draw(), size_wh=(4000, 3200), offset_xy=(1600, 800))
    result = search(tmp_path / "a.scn", tmp_path, origin=origin)
    assert len(result.detections) == len(DISCS)
    (tmp_path / "slides.csv").write_text(f"slide,annotation,origin,split\na.scn,a.geojson,{origin},test\n")
    truth = read_truth(read_slides_csv(tmp_path / "slides.csv"), ("glomerulus",))
    # Read as what they say they are, they lie where they were found: in level-0 pixels of the whole slide.
    np.testing.assert_allclose(truth["a"].boxes_l0, result.detections.boxes_l0, atol=1e-6)
    expected = boxes_of() + np.array([1600, 800, 1600, 800])
    assert np.abs(result.detections.boxes_l0[:, None] - expected).max(axis=2).min(axis=1).max() < 20


def test_nothing_found_is_said_plainly_and_leaves_empty_outputs(tmp_path):
    result = search(write_blob_slide(tmp_path / "a.svs", discs=()), tmp_path)
    assert "found no glomerulus with a score of 0.5 or more in 0.4" in describe(result.summary)
    assert len(pd.read_csv(tmp_path / "a.csv")) == 0
    assert (tmp_path / "a.overlay.jpg").is_file()


def test_no_tissue_is_said_plainly(tmp_path):
    result = search(write_svs(tmp_path / "a.svs", np.full((512, 512, 3), 255, np.uint8)), tmp_path, formats=ALL)
    assert "no tissue found" in describe(result.summary)
    assert result.summary["density_per_mm2"] is None
    assert result.summary["fragments"] == []
    assert all((tmp_path / name).is_file() for name in result.summary["files"].values())


def test_the_threshold_is_applied_after_merging(tmp_path):
    path = write_blob_slide(tmp_path / "a.svs")
    assert len(search(path, tmp_path, score_thresh=0.88).detections) == 0
    assert len(search(path, tmp_path, score_thresh=0.875).detections) == len(DISCS)


def test_weak_detections_are_kept_apart_from_every_output(tmp_path):
    path = write_blob_slide(tmp_path / "a.svs")
    result = search(path, tmp_path / "out", formats=ALL, score_thresh=0.88)
    assert result.summary["detections"]["total"] == 0
    assert result.summary["files"]["weak"] == "a.weak.csv"
    assert len(pd.read_csv(tmp_path / "out" / "a.csv")) == 0
    assert json.loads((tmp_path / "out" / "a.geojson").read_text())["features"] == []
    weak = pd.read_csv(tmp_path / "out" / "a.weak.csv")
    assert (weak["score"].tolist(), weak["fragment"].tolist()) == ([0.875] * len(DISCS), [1] * len(DISCS))
    # Strong ones are not in it, and no row is lost between the two.
    search(path, tmp_path / "out", score_thresh=0.5)
    assert [len(pd.read_csv(tmp_path / "out" / name)) for name in ("a.csv", "a.weak.csv")] == [len(DISCS), 0]


def test_no_mpp_is_refused_and_one_that_is_given_is_used(tmp_path):
    path = write_blob_slide(tmp_path / "a.svs", mpp=None)
    with pytest.raises(UserError, match="--mpp"):
        search(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert search(path, tmp_path / "out", mpp=0.5).summary["mpp_source"] == "given"
    assert search(SlideFile(path, mpp=0.25), tmp_path / "out", mpp=0.5).summary["mpp"] == 0.25  # of the table


def test_a_full_disk_leaves_no_half_file_and_no_summary(tmp_path, monkeypatch):
    path = write_blob_slide(tmp_path / "a.svs")
    search(path, tmp_path / "out")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "a.overlay.jpg")

    monkeypatch.setitem(formats.FORMATS, "overlay", Format(".overlay.jpg", full))
    with pytest.raises(OSError, match="No space left"):
        search(path, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.csv", "a.geojson"}


def test_a_damaged_place_is_an_error_or_is_left_out_and_told(tmp_path):
    # The detector looks at level 1. What is damaged there is read from level 0, but for four tiles around one disc.
    path = write_blob_slide(tmp_path / "a.svs")
    for level, column, row in ((1, 0, 0), (1, 1, 0), (0, 3, 1), (0, 4, 1), (0, 3, 2), (0, 4, 2)):
        damage_tile(path, level, column, row)
    with pytest.raises(UserError, match=r"a\.svs: pixels not readable"):
        search(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = search(path, tmp_path / "out", skip_unreadable=True)
    assert result.summary["unreadable_mm2"] == pytest.approx((512 * 0.5 / 1000) ** 2, rel=0.6)
    assert 0 < result.summary["unreadable_tissue_mm2"] <= result.summary["unreadable_mm2"]
    assert any("could not be read and were not searched" in warning for warning in result.summary["warnings"])
    whole = search(write_blob_slide(tmp_path / "whole.svs"), tmp_path / "out", skip_unreadable=True)
    assert whole.summary["unreadable_mm2"] == 0
    assert whole.summary["warnings"] == []
    assert len(result.detections) == len(whole.detections) - 1


def test_other_outputs_are_made_without_another_search(tmp_path, monkeypatch):
    path = write_blob_slide(tmp_path / "a.svs")
    search(path, tmp_path / "all", formats=ALL)
    search(path, tmp_path / "out", formats=("overlay",))
    monkeypatch.setattr(slide_runner, "open_predictor", None)  # calling it would be an error
    run_job(job_of(path, tmp_path / "out", formats=ALL))
    expected, got = contents(tmp_path / "all"), contents(tmp_path / "out")
    assert got.keys() == expected.keys()
    for name in expected.keys() - {"a.json", "a.report.json", "a.report.html"}:  # they say how long it took
        assert got[name] == expected[name], name
    # Fewer formats leave nothing of the others.
    run_job(job_of(path, tmp_path / "out", formats=()))
    assert set(contents(tmp_path / "out")) == {"a.csv", "a.weak.csv", "a.json"}


def test_another_search_leaves_nothing_of_the_one_before(tmp_path):
    path = write_blob_slide(tmp_path / "a.svs")
    search(path, tmp_path, formats=ALL)
    job = job_of(path, tmp_path, formats=("coco",), score_thresh=0.9)
    assert job.searched() is None
    assert len(run_job(job).detections) == 0
    assert {name for name in contents(tmp_path) if name != "a.svs"} == {
        *("a.csv", "a.weak.csv", "a.coco.json", "a.json")
    }


def test_a_slide_that_ends_before_its_last_tile_is_one_error(tmp_path):
    path = write_blob_slide(tmp_path / "a.svs")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(UserError, match=r"a\.svs"):
        search(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_slide_that_vanishes_while_it_is_searched_is_one_error(tmp_path):
    path = write_blob_slide(tmp_path / "a.svs")

    class Vanishing(BlobDetector):
        def model(self, inputs):
            path.unlink(missing_ok=True)
            raise OSError(errno.ESTALE, "Stale file handle", str(path))

    with pytest.raises(OSError, match="Stale"):
        search(path, tmp_path / "out", Vanishing())
    assert not (tmp_path / "out").exists()


def test_the_bar_says_how_far_the_search_is(tmp_path, capsys):
    job = job_of(write_blob_slide(tmp_path / "a.svs"), tmp_path / "out")
    slide_runner.search_slide(
        job, SlidePredictor(BlobDetector()), {"model": {"file": "m", "sha256": ""}, "provenance": {}}, bar=True
    )
    lines = capsys.readouterr().err.splitlines()
    total = json.loads(job.summary_file.read_text())["tiles"]
    assert lines[-1].startswith(f"a: {total} of {total} tiles")


def test_a_sentence_for_one_and_for_none():
    summary = {
        **{"name": "a", "tiles": 3, "tissue_mm2": 1.0, "density_per_mm2": 1.0, "score_thresh": 0.5, "seconds": 1},
        "detections": {"total": 1, "by_class": {"Glomerulus": 1, "other": 0}},
    }
    assert slide_runner.describe(summary).startswith("a: found 1 glomerulus, 0 other with a score")
    assert replace(job_of("a.svs", "out"), mpp=2.0).mpp == 2.0
