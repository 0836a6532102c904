from __future__ import annotations

import json

import numpy as np

from mhkd.evaluation.found import evaluate_found
from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.evaluation.scored_slide import SlideCase
from mhkd.structures import SlideDetections

NAMES = ("glomerulus",)
BOXES = np.array([[0, 0, 200, 200], [500, 0, 700, 200]], dtype=float)


def test_tables_plots_and_json_of_what_was_found(tmp_path):
    found = SlideDetections(BOXES, np.array([0.9, 0.2]), np.zeros(2), NAMES)
    cases = [
        SlideCase(name, name, 0.5, 4.0, GroundTruth.of(BOXES, NAMES * 2, NAMES), found, seconds)
        for name, seconds in (("a", 1.0), ("b", 3.0), ("c", None))
    ]
    model = {"file": "detector.pth", "input_mpp": 2.0}
    figures, written = evaluate_found(
        cases, 0.5, tmp_path, model=model, thresh_origin="stored with the model", draws=50
    )
    assert (figures.result["true_positives"], figures.result["num_objects"]) == (3, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert results["models"]["detector.pth"]["slides"]["seconds_per_slide"] == 2.0
    assert "detector.pth 0.500 (stored with the model)" in (tmp_path / "evaluation.md").read_text()
    assert "a" in results["models"]["detector.pth"]["slides"]["by_slide"]
