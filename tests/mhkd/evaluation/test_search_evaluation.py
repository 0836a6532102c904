from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mhkd.evaluation.plots import PLOTS
from mhkd.evaluation.scored_slide import GroundTruth, ScoredSlide
from mhkd.evaluation.search_evaluation import evaluate_detections, evaluate_search, join_at
from mhkd.inference.cohort_runner import SearchOutcome
from mhkd.structures import SlideDetections
from preprocess.annotations.class_map import ClassMap
from preprocess.slides.search import SlideFile
from tests.blobs import DISCS, BlobDetector, write_annotations, write_blob_slide
from tests.jobs import job_of, search

FALSE = 2  # the largest disc, found with the highest score, is no object in TRUTH
TRUTH = (*DISCS[:FALSE], *DISCS[FALSE + 1 :], (1000, 750, 60))  # and where the last one should be, nothing is drawn
NAMES = ("glomerulus",)


class Unsure(BlobDetector):
    """Is sure of large discs alone: 0.9 for the largest, 0.3 for the two smallest, 0.875 for the rest."""

    def _find(self, image):
        found = super()._find(image)
        for i, width in enumerate((found.pred_boxes.tensor[:, 2] - found.pred_boxes.tensor[:, 0]).tolist()):
            found.scores[i] = 0.9 if width > 26.5 else 0.3 if width < 24.5 else 0.875
        return found


def searched(folder: Path, name: str = "a", discs=DISCS, truth=TRUTH, **about) -> SearchOutcome:
    """A slide, its annotation beside it (unless ``truth`` is None), and the outcome of its search."""
    slide = write_blob_slide(folder / f"{name}.svs", discs)
    annotation = None if truth is None else write_annotations(folder / f"{name}.geojson", truth)
    file = SlideFile(slide, annotation=annotation, **about)
    return SearchOutcome(job_of(file, folder / "out"), search(file, folder / "out", Unsure()).summary)


def test_the_figures_of_one_slide_by_hand(tmp_path):
    done = evaluate_search([searched(tmp_path)], tmp_path / "out")
    slides = json.loads((tmp_path / "out" / "evaluation.json").read_text())["models"]["model.pth"]["slides"]
    # With a score of 0.5 or more four are found: three of the six objects, and the one that is none.
    assert (slides["num_objects"], slides["true_positives"], slides["false_positives"]) == (6, 3, 1)
    assert (slides["precision"], slides["recall"]) == (75.0, 50.0)
    assert slides["F1"] == pytest.approx(2 * 3 / (4 + 6) * 100)
    assert slides["counts"]["bias"] == -2
    # The weak ones count in AP and FROC: in the end five of six are right, so up to a recall of 5/6 (84 of 101 points)
    # the precision is 5/6. Without them it would be 3/4 up to a half.
    assert slides["AP50"] == pytest.approx(100 * 84 / 101 * 5 / 6)
    assert slides["froc"]["per_slide"]["at"] == {
        **dict.fromkeys(("0.25", "0.5"), 0.0),
        **dict.fromkeys(("1", "2", "4", "8"), pytest.approx(100 * 5 / 6)),
    }
    assert {size: entry["num_objects"] for size, entry in slides["by_size_um"].items()} == {
        **{"<100": 3, "100-150": 3, "150-200": 0, ">=200": 0}
    }
    assert (slides["score_thresh"], slides["score_thresh_origin"]) == (0.5, "default: the model has none")
    assert slides["tissue_mm2"] == pytest.approx(0.41, abs=0.03)
    for name in PLOTS:
        assert cv2.imread(str(tmp_path / "out" / name)).size
    assert {path.name for path in done.written} == {*PLOTS, "evaluation.md", "evaluation.json"}


def test_the_table_at_the_end_is_short(tmp_path, capsys):
    outcomes = [searched(tmp_path, name, patient=name) for name in "ab"]
    assert evaluate_search(outcomes, tmp_path / "out", draws=20).report() == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split("|")[1].strip() == "12 objects, 2 slides, 2 patients"
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:4]] for line in printed[:-5]}
    assert rows["F1"] == ["60.0", "(60.0 to 60.0)"]
    assert rows["limits of agreement"] == ["-2.0 to -2.0", ""]
    assert rows["F1, 100-150 um (n = 6)"][0] == "85.7"  # three of three in each slide, and one that is none
    assert [line.strip() for line in printed[-2:]] == [
        str(tmp_path / "out" / name) for name in ("evaluation.md", "evaluation.json")
    ]


def test_slides_that_failed_or_have_no_annotation_are_left_out_and_named(tmp_path, capsys):
    outcomes = [
        searched(tmp_path, "a"),
        searched(tmp_path, "b", truth=None),
        SearchOutcome(job_of(tmp_path / "c.svs", tmp_path / "out"), error="c.svs: no such slide"),
    ]
    done = evaluate_search(outcomes, tmp_path / "out")
    assert done.report() == 0  # that c failed, the search has said
    assert done.left_out == {"b": "no annotation", "c": "its search failed"}
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["left_out"] == done.left_out
    assert (
        "Not evaluated: b (no annotation), c (its search failed)." in (tmp_path / "out" / "evaluation.md").read_text()
    )
    assert "not evaluated: b (no annotation)" in capsys.readouterr().out


def test_an_annotation_that_cannot_be_used_costs_its_slide_alone(tmp_path, capsys):
    outcomes = [searched(tmp_path, name) for name in "abc"]
    (tmp_path / "b.geojson").write_text("{")
    write_annotations(tmp_path / "c.geojson", TRUTH, label="Tuft")
    done = evaluate_search(outcomes, tmp_path / "out")
    assert [scored.name for scored in done.metrics.slides] == ["a"]
    assert done.report() == 3
    err = capsys.readouterr().err
    assert "failed: b: " in err
    assert "damaged JSON" in err
    assert "annotated as 'Tuft', but the model knows 'glomerulus'" in err
    # A class map mends one of them.
    done = evaluate_search(outcomes, tmp_path / "out", classes=ClassMap.of({"Tuft": "glomerulus"}))
    assert [scored.name for scored in done.metrics.slides] == ["a", "c"]


def test_annotations_of_another_frame_are_not_scored_and_a_few_strays_are_said(tmp_path, capsys):
    outcomes = [searched(tmp_path, name) for name in "abc"]
    write_annotations(tmp_path / "b.geojson", [(2 * x, 2 * y, 2 * radius) for x, y, radius in TRUTH])
    write_annotations(tmp_path / "c.geojson", [*TRUTH, (5000, 5000, 100)])
    done = evaluate_search(outcomes, tmp_path / "out")
    assert [scored.name for scored in done.metrics.slides] == ["a", "c"]
    assert done.report() == 3
    err = capsys.readouterr().err
    assert "% of its 6 outlines lie off the slide" in err
    assert "note: " in err
    assert "c.geojson: 14 % of its 7 outlines lie off the slide" in err
    assert len(evaluate_search(outcomes, tmp_path / "out", max_misplaced=1.0).metrics.slides) == 3


def test_results_that_another_process_replaced_are_not_scored(tmp_path):
    outcome = searched(tmp_path)
    summary = tmp_path / "out" / "a.json"
    summary.write_text(summary.read_text().replace('"by_class"', '"by_class": {}, "again"', 1))
    assert "another process has replaced what was found" in evaluate_search([outcome], tmp_path / "out").failed[0]


def test_where_nothing_can_be_scored_no_earlier_evaluation_stays(tmp_path, capsys):
    outcome = searched(tmp_path)
    evaluate_search([outcome], tmp_path / "out")
    (tmp_path / "a.geojson").unlink()
    done = evaluate_search([outcome], tmp_path / "out")
    assert done.report() == 1
    assert "no slide could be evaluated" in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("evaluation*")) + list((tmp_path / "out").glob("*.png"))


def test_a_score_that_was_rounded_across_the_threshold_stays_on_its_side(tmp_path):
    boxes = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    found = SlideDetections(boxes[:1], np.array([0.4873]), np.zeros(1), NAMES)
    weak = SlideDetections(boxes[1:], np.array([0.4874]), np.zeros(1), NAMES)
    for thresh in (0.48733, 0.4874):
        joined = join_at(thresh, found, weak)
        assert (joined.scores >= thresh).tolist() == [True, False]
        np.testing.assert_allclose(joined.scores, [0.4873, 0.4874], atol=1.1e-4)


def test_a_slide_without_anything_found_or_to_find(tmp_path):
    outcomes = [searched(tmp_path, "a", discs=(), truth=TRUTH), searched(tmp_path, "b", truth=())]
    done = evaluate_search(outcomes, tmp_path / "out")
    assert (done.metrics.result["num_objects"], done.metrics.result["false_positives"]) == (6, 4)
    assert done.metrics.result["recall"] == 0


BOXES = np.array([[0, 0, 200, 200], [500, 0, 700, 200]], dtype=float)


def test_tables_plots_and_json_of_what_was_found(tmp_path):
    found = SlideDetections(BOXES, np.array([0.9, 0.2]), np.zeros(2), NAMES)
    slides = [
        ScoredSlide(name, name, 0.5, 4.0, GroundTruth.of(BOXES, NAMES * 2, NAMES), found, seconds)
        for name, seconds in (("a", 1.0), ("b", 3.0), ("c", None))
    ]
    model = {"file": "detector.pth", "input_mpp": 2.0}
    metrics, written = evaluate_detections(
        slides, 0.5, tmp_path, model=model, thresh_origin="stored with the model", draws=50
    )
    assert (metrics.result["true_positives"], metrics.result["num_objects"]) == (3, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert results["models"]["detector.pth"]["slides"]["seconds_per_slide"] == 2.0
    assert "detector.pth 0.500 (stored with the model)" in (tmp_path / "evaluation.md").read_text()
    assert "a" in results["models"]["detector.pth"]["slides"]["by_slide"]
