from __future__ import annotations

import cv2
import pandas as pd
import pytest

from mhkd.ablation.report import markdown, summary, table, write_report


def result(control: str, seed: int, ap: float | None):
    scores = {"AP": ap, "AP50": 80.0, "AP75": None, "F1": 70.0, "centre_F1": 75.0, "seconds_per_slide": 0.5}
    return {
        "control": control,
        "seed": seed,
        "start": "teacher",
        "iterations": 60,
        "input_mpp": 8.0,
        "seconds_per_iteration": {"phases1234": 0.6, "strict": 0.4}.get(control),
        "scores": scores
        | {"num_slides": 4, "by_patient": {"p": {}}, "num_objects": 9, "intervals": {"AP": [40.0, 65.0]}},
        "inputs": {"split": "test"},
    }


RESULTS = [
    *(result("phases1234", seed, ap) for seed, ap in ((1, 58.0), (2, 62.0))),
    *(result("strict", seed, ap) for seed, ap in ((1, 50.0), (2, 56.0))),
    *(result("teacher", seed, ap) for seed, ap in ((1, 70.0), (2, 74.0))),
    result("independent", 1, 48.0),
]


def test_figures_worked_out_by_hand():
    found = summary(table(RESULTS))
    assert list(found.index) == ["teacher", "independent", "strict", "phases1234"]  # the order of the controls
    whole = found.loc["phases1234"]
    assert (whole["AP"], whole["AP sd"]) == (60.0, pytest.approx(8**0.5))
    # Seed by seed 8 and 6 above strict; of the gap from 53 to 72, 7; 60 is a quarter above 48.
    assert (whole["over strict"], whole["over strict sd"]) == (7.0, pytest.approx(2**0.5))
    assert whole["recovered"] == pytest.approx(100 * 7 / 19)
    assert whole["gain over independent"] == pytest.approx(25.0)
    assert whole["cost"] == pytest.approx(1.5)


def test_a_run_has_its_intervals_and_what_was_scored():
    row = table([result("strict", 1, 50.0)]).iloc[0]
    assert (row["AP low"], row["AP high"], row["slides"], row["patients"], row["objects"]) == (40.0, 65.0, 4, 1, 9)
    assert pd.isna(row["F1 low"])


def test_the_table_says_what_is_known():
    lines = markdown(summary(table(RESULTS))).splitlines()
    row = next(line for line in lines if line.startswith("| phases1234"))
    assert (
        "| 60.0 +- 2.8 | 80.0 +- 0.0 | - | 70.0 +- 0.0 | 75.0 +- 0.0 | +7.0 +- 1.4 | 37 % | - | +25.0 % | 0.60 | 1.50 |"
        in row
    )
    alone = markdown(summary(table([result("phase1", 1, 40.0)])))
    assert "| 40.0 | 80.0 | - | 70.0 | 75.0 | - | - | - | - | - | - |" in alone


def test_files_are_written(tmp_path):
    csv, text, plot = write_report(RESULTS, tmp_path)
    assert len(pd.read_csv(csv)) == len(RESULTS)
    assert "4 slides, 1 patients, 9 objects of the split test" in text.read_text()
    assert cv2.imread(str(plot)).std() > 10
