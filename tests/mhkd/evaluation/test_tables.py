from __future__ import annotations

import json

from mhkd.evaluation.tables import (
    class_table,
    comparison,
    confusion_tables,
    markdown_table,
    size_table,
    slide_table,
    write_results,
)

SIZES = {
    "<100": {"num_objects": 8, "recall": 75.0, "F1": 80.04},
    ">=100": {"num_objects": 0, "recall": None, "F1": None},
}
SLIDES = {
    "AP": 60.123,
    "AP50": 90.0,
    "AP75": 71.5,
    "F1": None,
    "centre_F1": 88.8,
    "seconds_per_slide": 1.234,
    "froc": {"per_slide": {"mean": 81.0}, "per_mm2": {"mean": None}},
    "counts": {"bias": -1.25, "lower": -4.0, "upper": 1.5, "icc": 0.9876},
    "by_size_um": SIZES,
    "intervals": {"AP": [55.51, 64.0], "F1": None, "count_icc": [0.9, 0.9999]},
}
MODELS = {
    "teacher": {"input_mpp": 1.0, "tiles": {"AP": 61.0, "AP50": 92.25, "AP75": 70.0}, "slides": SLIDES},
    "lr": {"input_mpp": 4.0, "tiles": None, "slides": {**SLIDES, "intervals": {}}},
}


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_table_has_a_row_per_model_and_a_dash_for_what_is_missing():
    lines = markdown_table(MODELS).splitlines()
    assert cells(lines[0])[:4] == ["model", "um/px", "tile AP", "tile AP50"]
    assert cells(lines[2]) == ["teacher", "1.00", "61.0", "92.2", "70.0", "60.1", "90.0", "71.5", "-", "1.23"]
    assert cells(lines[3])[2:5] == ["-", "-", "-"]
    assert len({len(line) for line in lines}) == 1


def test_slide_figures_come_with_their_intervals():
    head, _, teacher, student = map(cells, slide_table(MODELS).splitlines())
    assert dict(zip(head, teacher, strict=True)) == {
        "model": "teacher",
        "AP": "60.1 (55.5 to 64.0)",
        "AP50": "90.0",
        "F1": "-",
        "centre-hit F1": "88.8",
        "FROC per slide": "81.0",
        "FROC per mm2": "-",
        "count bias": "-1.2",
        "ICC(2,1)": "0.988 (0.900 to 1.000)",
        "limits of agreement": "-4.0 to 1.5",
    }
    assert student[1] == "60.1"


def test_sizes_say_how_many_objects_they_hold():
    head, _, teacher, _ = map(cells, size_table(MODELS).splitlines())
    assert head[1:] == ["<100 um (n = 8)", ">=100 um (n = 0)"]
    assert teacher[1:] == ["75.0 / 80.0", "- / -"]


def test_the_last_model_is_compared_with_the_others():
    differences = {
        "teacher": {"AP": {"difference": -20.04, "interval": [-25.0, -15.55]}},
        "strict": {"AP": {"difference": -0.26, "interval": None}},
    }
    models = ["teacher", "strict", "student"]
    sentence = "Slide AP of student against the others: teacher -20.0 (-25.0 to -15.6), strict -0.3.\n"
    assert comparison(models, differences) == sentence
    assert comparison(["student"], {}) == ""
    assert comparison(models, {**differences, "strict": {"AP": {"difference": None, "interval": None}}}) == ""


def test_results_are_written_for_people_and_for_programs(tmp_path):
    about = {"num_slides": 3, "num_objects": 40, "num_patients": 1, "tissue_mm2": 12.34, "bootstrap": {"draws": 0}}
    about |= {"score_thresh": 0.25, "score_thresh_origin": "best F1 on val"}
    models = {"teacher": {**MODELS["teacher"], "slides": {**SLIDES, **about}}}
    markdown, data = write_results(tmp_path, {"split": "test", "models": models, "differences": {}})
    text = markdown.read_text()
    assert "Split test: 3 slides, 1 patients, 40 objects, 12.3 mm2 of tissue" in text
    assert "teacher 0.250 (best F1 on val)" in text
    assert "No intervals" in text
    assert json.loads(data.read_text())["models"] == models


def test_classes_have_a_table_and_a_confusion_table_each_model_where_there_are_several():
    gl = {"num_objects": 23, "AP": 20.04, "AP50": 40.0, "F1": None}
    slides = {
        "by_class": {"gl": gl, "gs": {**gl, "num_objects": 9}},
        "confusion": {"gl": {"gl": 5, "gs": 1, "(missed)": 17}, "(nothing)": {"gl": 2, "gs": 0, "(missed)": 0}},
    }
    models = {"teacher": {"slides": slides}}
    head, _, teacher = map(cells, class_table(models).splitlines())
    assert head[1:] == ["gl (n = 23)", "gs (n = 9)"]
    assert teacher == ["teacher", "20.0 / 40.0 / -", "20.0 / 40.0 / -"]
    head, _, gl_row, nothing = map(cells, confusion_tables(models).splitlines())
    assert (head[1:], gl_row[1:], nothing[1:]) == (["gl", "gs", "(missed)"], ["5", "1", "17"], ["2", "0", "0"])


def test_a_single_class_has_neither():
    slides = {"by_class": {"glomerulus": {"num_objects": 1}}, "confusion": {"glomerulus": {"glomerulus": 1, "x": 0}}}
    assert class_table({"m": {"slides": slides}}) == confusion_tables({"m": {"slides": slides}}) == ""
