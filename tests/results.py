"""What a search leaves, made without a model: to test what shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mhkd.inference.export.csv import write_csv
from mhkd.inference.export.record import SlideRecord, quantized
from mhkd.inference.fragments import TissueFragments
from mhkd.inference.predictor import SlidePredictor
from mhkd.inference.summary import SCHEMA, search_summary
from mhkd.structures import SlideDetections
from preprocess.base.files import write_json
from preprocess.slides.slide import Slide
from tests.blobs import BlobDetector
from tests.conftest import DISCS_L0

CLASS_NAMES = ("glomerulus", "sclerotic")


def disc_detections(discs: np.ndarray = DISCS_L0, class_names: tuple[str, ...] = CLASS_NAMES) -> SlideDetections:
    """Boxes of ``discs``, with scores from 0.9 down by 0.1 and the classes in turn."""
    x, y, radius = np.reshape(discs, (-1, 3)).T
    boxes = np.stack((x - radius, y - radius, x + radius, y + radius), axis=1)
    return SlideDetections(boxes, 0.9 - 0.1 * np.arange(len(x)), np.arange(len(x)) % len(class_names), class_names)


def make_record(slide: Slide, detections: SlideDetections | None = None, /, **summary: Any) -> SlideRecord:
    """The record of a search of ``slide`` that found ``detections``; ``summary`` replaces what its summary says."""
    found = quantized(disc_detections() if detections is None else detections)
    predictor = SlidePredictor(BlobDetector(class_names=found.class_names))
    plan = predictor.plan(slide)
    nothing = np.empty((0, 4))
    said = {
        "schema": SCHEMA,
        "name": slide.name,
        "slide": slide.path.name,
        "patient": None,
        "anonymized": False,
        "files": {},
        **search_summary(
            slide,
            found,
            plan,
            predictor,
            score_thresh=0.4,
            score_thresh_origin="given",
            unreadable_l0=nothing,
            seconds=1.0,
        ),
        "peak_memory_mb": 100,
        "model": {"file": "detector.pth", "sha256": "ab" * 32, "input_mpp": 4.0, "provenance": {"seed": 1}},
        "provenance": {"git_commit": None, "versions": {"python": "3.11"}},
        **summary,
    }
    fragments = TissueFragments.of(plan.tissue).containing(found.boxes_l0)
    return SlideRecord(
        slide=slide,
        name=str(said["name"]),
        file_name=str(said["slide"]),
        detections=found,
        fragments=fragments,
        summary=said,
    )


def write_results(
    folder: Path, path: Path, detections: SlideDetections | None = None, /, **summary: Any
) -> SlideRecord:
    """Leave in ``folder`` what a search of the slide at ``path`` leaves at least: the table and the summary."""
    with Slide.open(path) as slide:
        record = make_record(slide, detections, **summary)
        write_csv(folder / f"{record.name}.csv", record)
        write_json(folder / f"{record.name}.json", record.summary)
    return record
