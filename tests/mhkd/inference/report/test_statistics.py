from __future__ import annotations

import json

import numpy as np
import pytest

from mhkd.inference.report.statistics import describe_slide
from mhkd.structures import SlideDetections
from preprocess.slides.slide import Slide
from tests.results import CLASS_NAMES, make_record


def test_classes_are_counted_measured_and_added_up(svs_slide, discs):
    with Slide.open(svs_slide) as slide:
        report = describe_slide(make_record(slide))
    first, second, together = report["classes"]
    assert [row["class"] for row in report["classes"]] == [*CLASS_NAMES, "all"]
    assert [row["count"] for row in report["classes"]] == [3, 2, 5]
    # Diameters in um: twice the radius, at 0.5 um/px.
    assert first["diameter_um_quartiles"] == np.percentile(discs[::2, 2], (25, 50, 75)).tolist()
    assert (first["median_score"], second["median_score"]) == (0.7, 0.7)
    assert together["density_per_mm2"] == pytest.approx(report["summary"]["density_per_mm2"], abs=1e-3)
    assert report["adequacy"]["verdict"] == "inadequate"
    assert sum(report["diameter_um"]["by_class"]["glomerulus"]) == 3
    assert [row["score"] for row in report["detections"]] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert report["detections"][0]["box_l0"] == [240, 200, 360, 320]
    assert report["detections"][0]["fragment"] == 1
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_without_detections_there_is_nothing_to_average(svs_slide):
    with Slide.open(svs_slide) as slide:
        report = describe_slide(make_record(slide, SlideDetections.empty(("glomerulus",))))
    (row,) = report["classes"]
    assert row["count"] == row["density_per_mm2"] == 0
    assert row["median_score"] is row["diameter_um_quartiles"] is None
    assert report["detections"] == []


def test_what_could_not_be_read_does_not_thin_the_density(svs_slide):
    with Slide.open(svs_slide) as slide:
        whole = describe_slide(make_record(slide, tissue_mm2=2.0, unreadable_tissue_mm2=0.0))
        half = describe_slide(make_record(slide, tissue_mm2=2.0, unreadable_tissue_mm2=1.0))
        none = describe_slide(make_record(slide, tissue_mm2=0.0, unreadable_tissue_mm2=0.0))
    assert [report["classes"][0]["density_per_mm2"] for report in (whole, half, none)] == [1.5, 3.0, None]
