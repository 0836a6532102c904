from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mhkd.evaluation import slide_level
from mhkd.evaluation.slide_level import evaluate_groups, fill_splits
from mhkd.structures import SlideDetections
from preprocess.annotations.class_map import ClassMap
from preprocess.base.errors import UserError
from preprocess.slides.table import OUTPUT_NAME, read_slides_csv
from tests.blobs import DISCS, boxes_of, write_annotations, write_blob_slide, write_cohort

NAMES = ("glomerulus",)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three test slides of two patients, one of them without annotation, and a val slide; all look the same."""
    folder = tmp_path_factory.mktemp("cohort")
    write_annotations(folder / "all.geojson")
    rows = []
    for name, patient, split in (("a", "p1", "test"), ("b", "p1", "test"), ("c", "p2", "test"), ("v", "p3", "val")):
        write_blob_slide(folder / f"{name}.svs")
        annotation = "all.geojson" if name != "c" else ""
        rows.append({"slide": f"{name}.svs", "annotation": annotation, "patient": patient, "split": split})
    return read_slides_csv(write_cohort(folder, rows))


def evaluate_slides(*arguments, **options):
    return slide_level.evaluate_slides(*arguments, **options).result


class Recites:
    """Says by slide name what it was causes to; remembers what it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def __call__(self, slide):
        self.asked.append(slide.name)
        boxes, scores = self.answers.get(slide.name, (np.empty((0, 4)), []))
        return SlideDetections(boxes, np.array(scores), np.zeros(len(scores)), NAMES)


TRUTH = boxes_of()
FALSE = np.array([[0.0, 0, 50, 50]])
ONE_CLASS = ClassMap.choose(None, "glomerulus")


def test_stitched_slides_are_scored_by_split_and_patient(cohort):
    predict = Recites(a=(TRUTH, [0.9] * 6), b=(np.concatenate((TRUTH[:3], FALSE)), [0.9, 0.9, 0.9, 0.4]))
    result = evaluate_slides(predict, cohort, "test", NAMES, score_thresh=0.5)
    assert predict.asked == ["a", "b"]
    assert (result["num_slides"], result["num_slides_without_annotation"]) == (2, 1)
    assert (result["num_objects"], result["true_positives"], result["false_positives"]) == (12, 9, 0)
    assert result["F1"] == pytest.approx(100 * 18 / 21)
    assert result["by_slide"]["a"]["AP"] == pytest.approx(100, abs=1)
    assert result["by_slide"]["b"]["AP50"] == pytest.approx(5100 / 101)
    assert result["by_patient"]["p1"]["slides"] == ["a", "b"]
    assert result["by_patient"]["p1"]["F1"] == result["F1"]
    assert result["seconds_per_slide"] >= 0
    assert result["by_slide"]["a"]["seconds"] >= 0
    # A rectangle of 1500 x 1100 px at 0.5 um/px.
    assert result["by_slide"]["a"]["tissue_mm2"] == pytest.approx(0.4125, rel=0.1)
    assert result["tissue_mm2"] == pytest.approx(2 * result["by_slide"]["a"]["tissue_mm2"], abs=1e-3)


def test_the_threshold_is_fixed_on_the_validation_split(cohort):
    val = (np.concatenate((TRUTH, FALSE)), [0.7] * 6 + [0.65])
    predict = Recites(v=val, a=(TRUTH, [0.8] * 6), b=(TRUTH, [0.69] * 6))
    result = evaluate_slides(predict, cohort, "test", NAMES)
    assert predict.asked == ["v", "a", "b"]
    assert (result["score_thresh"], result["score_thresh_origin"]) == (0.7, "best F1 on val")
    assert result["true_positives"] == 6  # those of b score less, although they are right


def test_without_validation_slides_the_threshold_is_the_default(cohort):
    result = evaluate_slides(Recites(), cohort[cohort["split"] == "test"], "test", NAMES)
    assert (result["score_thresh"], result["score_thresh_origin"]) == (0.5, "default: the model has none")
    assert (result["AP"], result["F1"], result["precision"]) == (0, 0, None)


def test_where_nothing_can_be_validated_the_threshold_of_the_model_counts(cohort):
    test_only = cohort[cohort["split"] == "test"]
    result = evaluate_slides(Recites(), test_only, "test", NAMES, stored_thresh=0.3, stored_origin="by hand")
    assert (result["score_thresh"], result["score_thresh_origin"]) == (0.3, "stored with the model: by hand")
    result = evaluate_slides(Recites(), test_only, "test", NAMES, stored_thresh=0.3, score_thresh=0.6)
    assert (result["score_thresh"], result["score_thresh_origin"]) == (0.6, "given")
    result = evaluate_slides(Recites(v=(TRUTH, [0.7] * 6)), cohort, "test", NAMES, stored_thresh=0.3)
    assert result["score_thresh"] == 0.7


def test_annotations_of_another_frame_end_the_evaluation_before_it_starts(cohort, tmp_path):
    moved = cohort.assign(
        annotation=str(write_annotations(tmp_path / "moved.geojson", [(x, y + 1400, r) for x, y, r in DISCS]))
    )
    with pytest.raises(UserError, match=r"moved.geojson: 100 % of its 6 outlines lie off the slide"):
        evaluate_slides(Recites(), moved, "test", NAMES)


def test_labels_count_as_they_did_when_the_tiles_were_made(cohort):
    with pytest.raises(UserError, match="'glomerulus', but the model knows 'Lesion'"):
        evaluate_slides(Recites(), cohort, "test", ("Lesion",))
    merged = evaluate_slides(Recites(), cohort, "test", ("Lesion",), classes=ClassMap.of({"*": "Lesion"}))
    assert merged["num_objects"] == 2 * len(DISCS)
    none = evaluate_slides(Recites(), cohort, "test", ("Lesion",), classes=ClassMap.choose(["Lesion"], None))
    assert (none["num_objects"], none["AP"]) == (0, None)
    ignored = evaluate_slides(
        Recites(a=(TRUTH, [0.9] * 6)), cohort, "test", ("A", "B"), classes=ClassMap.of({"*": "ignore"})
    )
    assert (ignored["num_objects"], ignored["false_positives"]) == (0, 0)


def test_a_bad_slide_is_found_before_any_is_searched(cohort, tmp_path):
    (tmp_path / "broken.svs").write_bytes(b"no slide")
    rows = cohort.copy()
    rows.loc[1, "slide"] = str(tmp_path / "broken.svs")
    predict = Recites()
    with pytest.raises(UserError, match=r"broken\.svs"):
        evaluate_slides(predict, rows, "test", NAMES)
    assert predict.asked == []


def test_a_split_without_annotated_slides_is_refused(cohort):
    with pytest.raises(UserError, match="no annotated slide in the split 'train'"):
        evaluate_slides(Recites(), cohort, "train", NAMES)


def test_splits_that_the_table_leaves_open_come_from_the_tiles():
    nan = float("nan")
    slides = pd.DataFrame(
        {"slide": ["x/a.svs", "x/b.svs"], OUTPUT_NAME: ["a", "b"], "split": [nan, nan], "patient": ["p", nan]},
        dtype=object,
    )
    tiles = pd.DataFrame({"slide": ["a", "b", "b"], "split": ["test", "val", "val"], "patient": ["q", "b", "b"]})
    filled = fill_splits(slides, tiles)
    assert filled["split"].tolist() == ["test", "val"]
    assert filled["patient"].tolist() == ["p", "b"]


@pytest.fixture(scope="module")
def stained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_annotations(folder / "all.geojson", label="gs")
    write_annotations(folder / "none.geojson", ())
    rows = []
    for name, stain, annotation in (("a", "PAS", "all"), ("b", "HE", "all"), ("c", "HE", "none"), ("d", "PAS", "")):
        write_blob_slide(folder / f"{name}.svs")
        rows.append({"slide": f"{name}.svs", "annotation": annotation and f"{annotation}.geojson", "stain": stain})
    return read_slides_csv(write_cohort(folder, rows))


def predict(slide):
    boxes, scores = {
        "a": (TRUTH, [0.9] * 6),
        "b": (np.concatenate((TRUTH[:3], FALSE)), [0.9, 0.9, 0.4, 0.8]),
        "c": (FALSE, [0.7]),
    }[slide.name]
    return SlideDetections(boxes, np.array(scores), np.zeros(len(scores)), NAMES)


def test_each_group_is_counted_by_itself_and_every_class_as_the_one(stained):
    table, best = evaluate_groups(predict, stained, ["stain"], NAMES, ONE_CLASS, 0.5)
    pas, he = table.to_dict("records")
    assert (pas["stain"], pas["images"], pas["objects"], pas["missed"], pas["false"]) == ("PAS", 1, 6, 0, 0)
    assert pas["F1"] == pas["centre_F1"] == 100
    assert (he["stain"], he["images"], he["objects"], he["missed"], he["false"]) == ("HE", 2, 6, 4, 2)
    assert he["recall"] == pytest.approx(100 / 3)
    assert he["precision"] == pytest.approx(50)
    assert best == 0.9


def test_two_columns_make_finer_groups(stained):
    table, _ = evaluate_groups(predict, stained, ["stain", "annotation"], NAMES, ONE_CLASS, 0.5)
    assert table["images"].tolist() == [1, 1, 1]


def test_a_column_or_annotations_that_are_missing_are_user_errors(stained):
    with pytest.raises(UserError, match="no column scanner"):
        evaluate_groups(predict, stained, ["scanner"], NAMES, ONE_CLASS, 0.5)
    with pytest.raises(UserError, match="annotation"):
        evaluate_groups(predict, stained.assign(annotation=None), ["stain"], NAMES, ONE_CLASS, 0.5)
