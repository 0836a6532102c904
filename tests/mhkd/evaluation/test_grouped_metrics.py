from __future__ import annotations

import numpy as np
import pytest

from mhkd.evaluation.grouped_metrics import evaluate_groups
from mhkd.structures import SlideDetections
from preprocess.annotations.class_map import ClassMap
from preprocess.base.errors import UserError
from preprocess.slides.table import read_slides_csv
from tests.blobs import boxes_of, write_annotations, write_blob_slide, write_cohort

NAMES, ALL = ("Glomerulus",), ClassMap.choose(None, "Glomerulus")
TRUTH, FALSE = boxes_of(), np.array([[0.0, 0, 50, 50]])


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
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


def test_each_group_is_counted_by_itself_and_every_class_as_the_one(slides):
    table, best = evaluate_groups(predict, slides, ["stain"], NAMES, ALL, 0.5)
    pas, he = table.to_dict("records")
    assert (pas["stain"], pas["images"], pas["objects"], pas["missed"], pas["false"]) == ("PAS", 1, 6, 0, 0)
    assert pas["F1"] == pas["centre_F1"] == 100
    assert (he["stain"], he["images"], he["objects"], he["missed"], he["false"]) == ("HE", 2, 6, 4, 2)
    assert he["recall"] == pytest.approx(100 / 3)
    assert he["precision"] == pytest.approx(50)
    assert best == 0.9


def test_two_columns_make_finer_groups(slides):
    table, _ = evaluate_groups(predict, slides, ["stain", "annotation"], NAMES, ALL, 0.5)
    assert table["images"].tolist() == [1, 1, 1]


def test_a_column_or_annotations_that_are_missing_are_user_errors(slides):
    with pytest.raises(UserError, match="no column scanner"):
        evaluate_groups(predict, slides, ["scanner"], NAMES, ALL, 0.5)
    with pytest.raises(UserError, match="annotation"):
        evaluate_groups(predict, slides.assign(annotation=None), ["stain"], NAMES, ALL, 0.5)
