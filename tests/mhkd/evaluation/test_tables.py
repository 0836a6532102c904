from __future__ import annotations

import json

from mhkd.evaluation.tables import comparison, markdown_table, write_results

SLIDES = {"AP": 60.123, "AP50": 90.0, "AP75": 71.5, "F1": None, "seconds_per_slide": 1.234}
MODELS = {
    "teacher": {"input_mpp": 1.0, "tiles": {"AP": 61.0, "AP50": 92.25, "AP75": 70.0}, "slides": SLIDES},
    "lr": {"input_mpp": 4.0, "tiles": None, "slides": SLIDES},
}


def test_the_table_has_a_row_per_model_and_a_dash_for_what_is_missing():
    lines = markdown_table(MODELS).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:5]] == ["model", "um/px", "tile AP", "tile AP50"]
    teacher = ["teacher", "1.00", "61.0", "92.2", "70.0", "60.1", "90.0", "71.5", "-", "1.23"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == teacher
    assert [cell.strip() for cell in lines[3].split("|")[3:6]] == ["-", "-", "-"]
    assert len({len(line) for line in lines}) == 1


def test_the_last_model_is_compared_with_the_others():
    models = {name: {"slides": {"AP": ap}} for name, ap in (("teacher", 70.04), ("strict", 50.26), ("student", 49.96))}
    assert comparison(models) == "Slide AP of student against the others: teacher -20.0, strict -0.3.\n"
    assert comparison({"student": models["student"]}) == ""
    assert comparison({**models, "blind": {"slides": {"AP": None}}}) == ""


def test_results_are_written_for_people_and_for_programs(tmp_path):
    counts = {"num_slides": 3, "num_objects": 40, "by_patient": {"p": {}}}
    models = {"teacher": {**MODELS["teacher"], "slides": SLIDES | counts}}
    markdown, data = write_results(tmp_path, {"split": "test", "models": models})
    assert "Split test: 3 slides, 1 patients, 40 objects" in markdown.read_text()
    assert json.loads(data.read_text())["models"] == models
