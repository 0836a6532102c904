from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mhkd.ablation.report import COLUMNS, SCORES
from mhkd.ablation.resolution import markdown, read_resolution
from preprocess.base.errors import UserError


def run(control: str, seed: int, mpp: float, ap: float, **changed) -> dict:
    row = dict.fromkeys(COLUMNS, None) | {"control": control, "seed": seed, "um/px": mpp, "iterations": 60}
    for place, score in enumerate(SCORES):
        row |= {score: ap + place, f"{score} low": ap - 10, f"{score} high": ap + 12}
    return row | {"slides": 14, "patients": 4, "objects": 156} | changed


TEACHERS = [run("teacher", 1, 3, 66.0), run("teacher", 2, 3, 68.0)]
FINE = [
    *TEACHERS,
    run("strict", 1, 6, 60.0),
    run("strict", 2, 6, 64.0),
    run("untrained", 1, 6, 50.0),
    run("untrained", 2, 6, 52.0),
]
COARSE = [*TEACHERS, run("strict", 1, 12, 40.0)]


def write(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "controls.csv", index=False)
    return folder


@pytest.fixture
def tables(tmp_path) -> list[Path]:
    return [write(tmp_path / "s2", FINE), write(tmp_path / "s4", COARSE)]


def test_figures_worked_out_by_hand(tables):
    points = read_resolution(tables).points.set_index(["control", "um/px"])
    assert list(points.index) == [("teacher", 3), ("untrained", 6), ("strict", 6), ("strict", 12)]
    strict = points.loc[("strict", 6)]
    assert (strict["seeds"], strict["AP"], strict["AP sd"]) == (2, 62.0, pytest.approx(8**0.5))
    assert (strict["AP low"], strict["AP high"], strict["centre_F1"]) == (52.0, 74.0, 66.0)
    # The teacher stands in both tables and counts once a seed; one seed has no spread.
    assert (points.loc[("teacher", 3), "seeds"], points.loc[("teacher", 3), "AP"]) == (2, 67.0)
    assert pd.isna(points.loc[("strict", 12), "AP sd"])


def test_what_was_not_run_is_said(tables):
    controls = ["teacher", "untrained", "strict", "phases1234"]
    resolution = read_resolution(tables, controls)
    assert resolution.missing == (
        "HR teacher on LR, untrained at 12 um/px",
        "LR baseline, strict at 12 um/px (1 of 2 seeds)",
        "MHKD student (u = s) at 6 um/px",
        "MHKD student (u = s) at 12 um/px",
    )
    text = markdown(resolution)
    assert "| LR baseline, strict | 6 | 2 | 62.0 +- 2.8 (52.0 to 74.0) | 63.0 +- 2.8 (52.0 to 74.0) |" in text
    assert "| LR baseline, strict | 12 | 1 | 40.0 (30.0 to 52.0) |" in text
    assert "14 slides, 4 patients, 156 objects." in text
    assert text.endswith("Not run: " + "; ".join(resolution.missing) + ".\n")


def test_a_table_without_any_of_the_curves_is_said(tables, tmp_path):
    other = write(tmp_path / "s8", [*TEACHERS, run("joint", 1, 24, 20.0)])
    missing = read_resolution([*tables, other], ["teacher", "strict"]).missing
    assert missing == ("LR baseline, strict at 12 um/px (1 of 2 seeds)", "LR baseline, strict at 24 um/px")


def test_a_table_may_be_named_by_its_file(tables):
    assert len(read_resolution([table / "controls.csv" for table in tables]).points) == 4


def test_tables_that_do_not_go_together_are_refused(tmp_path, tables):
    other = write(tmp_path / "other", [run("teacher", 1, 3, 66.5)])
    with pytest.raises(UserError, match="different results of teacher, seed 1, at 3 um/px"):
        read_resolution([*tables, other])
    elsewhere = write(tmp_path / "elsewhere", [run("strict", 1, 24, 30.0, objects=99)])
    with pytest.raises(UserError, match="different slides: 156 and 99 objects"):
        read_resolution([*tables, elsewhere])


def test_what_cannot_be_read_says_what_to_do(tmp_path, tables):
    with pytest.raises(UserError, match="no table of controls"):
        read_resolution([tmp_path])
    with pytest.raises(UserError, match="no control is called nothing"):
        read_resolution(tables, ["nothing"])
    old = write(tmp_path / "old", [{k: v for k, v in run("strict", 1, 6, 1.0).items() if k != "AP low"}])
    with pytest.raises(UserError, match="the table lacks AP low"):
        read_resolution([old])
    with pytest.raises(UserError, match="hold no run of joint"):
        read_resolution(tables, ["joint"])
