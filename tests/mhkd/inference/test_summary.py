from __future__ import annotations

import json
import multiprocessing

import numpy as np
import pytest

from mhkd.inference.predictor import SlidePredictor
from mhkd.inference.summary import SCHEMA, iter_summaries, peak_memory_mb, read_summary, search_summary
from mhkd.structures import SlideDetections
from preprocess.slides.slide import Slide
from preprocess.synthetic.svs import write_svs
from tests.blobs import BlobDetector, write_blob_slide
from tests.jobs import search


def summary_of(path, *, unreadable=(), **options):
    predictor = SlidePredictor(BlobDetector(**options))
    with Slide.open(path) as slide:
        plan = predictor.plan(slide)
        boxes = np.array(unreadable, float).reshape(-1, 4)
        found = SlideDetections.empty(("glomerulus",))
        return search_summary(
            slide,
            found,
            plan,
            predictor,
            score_thresh=0.5,
            score_thresh_origin="given",
            unreadable_l0=boxes,
            seconds=1.0,
        )


def test_a_slide_coarser_than_the_model_and_an_estimated_mpp_are_warned_about_with_numbers(tmp_path):
    path = write_svs(tmp_path / "a.svs", np.full((512, 512, 3), 255, np.uint8), mpp=None, objective_power=2)
    coarse, estimate = summary_of(path, input_mpp=1.0)["warnings"]
    assert coarse == "the slide has 5 um/px, coarser than the 1 um/px of the model: expect less"
    assert "5 um/px is an estimate" in estimate
    assert summary_of(write_blob_slide(tmp_path / "b.svs"))["warnings"] == []


def test_unreadable_places_count_once_and_the_density_is_of_the_rest(tmp_path):
    # The tissue is (250, 200) to (1750, 1300). Two boxes that overlap, half of them glass.
    summary = summary_of(write_blob_slide(tmp_path / "a.svs"), unreadable=[(150, 500, 350, 700), (150, 600, 350, 800)])
    assert summary["unreadable_mm2"] == pytest.approx(200 * 300 * 0.25e-6, abs=1e-4)
    assert summary["unreadable_tissue_mm2"] == pytest.approx(100 * 300 * 0.25e-6, rel=0.1)
    assert "0.015 mm2 could not be read" in summary["warnings"][0]
    assert summary["unreadable_l0"] == [[150, 500, 350, 700], [150, 600, 350, 800]]


def test_the_summaries_of_a_folder_are_told_from_other_json(tmp_path):
    for name in ("b", "a"):
        search(write_blob_slide(tmp_path / f"{name}.svs"), tmp_path, formats=("coco", "dsa"))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    assert [summary["name"] for summary in iter_summaries(tmp_path)] == ["a", "b"]
    assert read_summary(tmp_path / "a.json")["schema"] == SCHEMA
    assert read_summary(tmp_path / "a.coco.json") is None
    assert read_summary(tmp_path / "missing.json") is None


def test_it_is_plain_json_and_the_memory_is_in_megabytes(tmp_path):
    summary = summary_of(write_blob_slide(tmp_path / "a.svs"))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert 50 < peak_memory_mb() < 100_000


def test_the_memory_of_a_worker_is_not_that_of_the_process_that_started_it():
    held = bytearray(1 << 29)
    held[::4096] = b"x" * len(held[::4096])
    own = peak_memory_mb()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert 50 < pool.apply(peak_memory_mb) < own - 200
