from __future__ import annotations

import errno
import json

import numpy as np
import pandas as pd
import pytest

from mhkd.evaluation.slide_level import read_truth
from mhkd.inference import slide_runner
from mhkd.inference.predictor import SlidePredictor
from mhkd.inference.slide_runner import SUFFIXES, run_slide
from preprocess.errors import UserError
from preprocess.manifest import read_slides_csv
from preprocess.synthetic.svs import write_svs
from tests.blobs import DISCS, BlobDetector, boxes_of, draw, write_blob_slide
from tests.scn import write_scn


def run(path, output_dir, detector=None, **options):
    return run_slide(path, SlidePredictor(detector or BlobDetector()), output_dir, origin={"model": {}}, **options)


def test_a_slide_leaves_four_files_that_agree(tmp_path):
    result = run(write_blob_slide(tmp_path / "case 1.svs"), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"case_1{suffix}" for suffix in SUFFIXES}
    summary = json.loads((tmp_path / "out" / "case_1.json").read_text())
    assert summary == result.summary
    assert summary["detections"] == {"total": len(DISCS), "by_class": {"glomerulus": len(DISCS)}}
    assert summary["density_per_mm2"] == pytest.approx(len(DISCS) / summary["tissue_mm2"], rel=1e-3)
    assert summary["mpp"] == 0.5
    assert len(pd.read_csv(tmp_path / "out" / "case_1.csv")) == len(DISCS)
    assert len(json.loads((tmp_path / "out" / "case_1.geojson").read_text())["features"]) == len(DISCS)
    assert f"found {len(DISCS)} glomeruli with a score of 0.5 or more" in result.sentence()


def test_outputs_tell_nothing_of_the_slide_but_its_file_name(tmp_path):
    write_blob_slide(tmp_path / "a.svs")
    run(tmp_path / "a.svs", tmp_path / "out")
    for suffix in (".json", ".geojson", ".csv"):
        text = (tmp_path / "out" / f"a{suffix}").read_text()
        assert "ScanScope" not in text
        assert str(tmp_path) not in text


def test_qupath_gets_boxes_that_count_from_what_was_scanned(tmp_path):
    write_scn(tmp_path / "a.scn", draw(), size_wh=(4000, 3200), offset_xy=(1600, 800))
    result = run(tmp_path / "a.scn", tmp_path)
    assert len(result.detections) == len(DISCS)
    (tmp_path / "slides.csv").write_text("slide,annotation,origin,split\na.scn,a.geojson,bounds,test\n")
    truth = read_truth(read_slides_csv(tmp_path / "slides.csv"), ("glomerulus",))
    # Read as QuPath's, they are where they were found: in level-0 pixels of the whole slide.
    np.testing.assert_allclose(truth["a"].boxes_l0, result.detections.boxes_l0, atol=0.01)
    expected = boxes_of() + np.array([1600, 800, 1600, 800])
    assert np.abs(result.detections.boxes_l0[:, None] - expected).max(axis=2).min(axis=1).max() < 20


def test_nothing_found_is_said_plainly_and_leaves_empty_outputs(tmp_path):
    result = run(write_blob_slide(tmp_path / "a.svs", discs=()), tmp_path)
    assert "found no glomerulus with a score of 0.5 or more in 0.4" in result.sentence()
    assert len(pd.read_csv(tmp_path / "a.csv")) == 0
    assert (tmp_path / "a.overlay.png").is_file()


def test_no_tissue_is_said_plainly(tmp_path):
    result = run(write_svs(tmp_path / "a.svs", np.full((512, 512, 3), 255, np.uint8)), tmp_path)
    assert "no tissue found" in result.sentence()
    assert result.summary["density_per_mm2"] is None
    assert all((tmp_path / f"a{suffix}").is_file() for suffix in SUFFIXES)


def test_the_threshold_is_applied_after_merging(tmp_path):
    path = write_blob_slide(tmp_path / "a.svs")
    assert len(run(path, tmp_path, score_thresh=0.88).detections) == 0
    assert len(run(path, tmp_path, score_thresh=0.875).detections) == len(DISCS)


def test_a_slide_coarser_than_the_model_and_an_estimated_mpp_are_warned_about(tmp_path):
    path = write_svs(tmp_path / "a.svs", np.full((512, 512, 3), 255, np.uint8), mpp=None, objective_power=2)
    warnings = run(path, tmp_path, BlobDetector(input_mpp=1.0)).summary["warnings"]
    assert ["coarser" in warnings[0], "estimate" in warnings[1]] == [True, True]


def test_no_mpp_is_refused_and_one_that_is_given_is_used(tmp_path):
    path = write_blob_slide(tmp_path / "a.svs", mpp=None)
    with pytest.raises(UserError, match="--mpp"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert run(path, tmp_path / "out", mpp=0.5).summary["mpp_source"] == "given"


def test_a_full_disk_leaves_no_half_file_and_no_summary(tmp_path, monkeypatch):
    path = write_blob_slide(tmp_path / "a.svs")
    run(path, tmp_path / "out")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "a.overlay.png")

    monkeypatch.setattr(slide_runner, "write_overlay", full)
    with pytest.raises(OSError, match="No space left"):
        run(path, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.csv", "a.geojson", "a.overlay.png"}
