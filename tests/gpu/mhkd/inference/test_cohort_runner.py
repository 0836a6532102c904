"""Several processes of one machine on its GPUs."""

from __future__ import annotations

import json

import pytest
import torch

from mhkd.deploy.load import load_model
from mhkd.inference.cohort_runner import search_slides
from mhkd.inference.slide_job import ModelFile, OutputSpec, SearchOptions, SearchSpec, SlideJob
from preprocess.slides.search import SlideFile
from tests.blobs import DISCS, write_blob_slide


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_two_workers_detect_what_one_process_detects(checkpoint, tmp_path, device, capsys):
    slides = [write_blob_slide(tmp_path / f"{name}.svs", DISCS[:count]) for name, count in (("a", 6), ("b", 3))]
    totals = {}
    for workers in (0, 2):
        model = ModelFile.of(load_model, checkpoint, device, workers)
        spec, outputs = (
            SearchSpec(model, SearchOptions(score_thresh=0.0)),
            OutputSpec(tmp_path / str(workers), ("csv",)),
        )
        outcomes, _ = search_slides([SlideJob.of(SlideFile(slide), spec, outputs) for slide in slides], workers)
        assert [outcome.error for outcome in outcomes] == [None, None]
        summaries = [json.loads((outputs.folder / f"{name}.json").read_text()) for name in "ab"]
        totals[workers] = [summary["detections"]["total"] for summary in summaries]
        assert {summary["model"]["computed_by"].split(", ")[1] for summary in summaries} == {"cuda"}
    assert totals[0] == totals[2]
    shared = torch.cuda.device_count() == 1 or device == "cuda:0"
    assert capsys.readouterr().err.count("2 workers share") == int(shared)
