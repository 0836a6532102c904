from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from mhkd.ablation.evidence import COLUMNS, add_evidence, evidence_markdown, evidence_rows, read_evidence
from preprocess.base.errors import UserError
from tests.mhkd.conftest import make_tiny


def write_run(folder: Path, tiles: Path, seed: int, ap: float, unlabelled: int = 0, control: str = "strict") -> None:
    run = folder / control / f"seed{seed}"
    run.mkdir(parents=True, exist_ok=True)
    bins = {"<100": {"recall": 50.0}, "100-150": {"recall": None}}
    scores = {"AP": ap, "AP50": 80.0, "AP75": 60.0, "F1": 70.0, "centre_F1": 75.0, "by_size_um": bins}
    scores |= {"seconds_per_slide": 1.5, "num_objects": 20}
    result = {"control": control, "seed": seed, "iterations": 40, "input_mpp": 8.0, "upsample": 4, "scores": scores}
    result |= {"inputs": {"split": "test"}, "provenance": {"git_commit": "abc"}}
    (run / "result.json").write_text(json.dumps(result))
    (run / "metrics.json").write_text(json.dumps({"iteration": 39, "time": 0.5}) + "\n")
    (run / "config.yaml").write_text(make_tiny(tiles, folder)("baseline_strict").dump())
    record = {"pseudo_labels": {"num_slides": unlabelled}} if unlabelled else {}
    (run / "run.json").write_text(json.dumps(record))


def test_runs_become_rows_once_and_a_table(tile_pairs: Path, tmp_path: Path) -> None:
    for seed, ap in ((1, 50.0), (2, 54.0)):
        write_run(tmp_path / "out", tile_pairs, seed, ap)
    path = tmp_path / "evidence.csv"
    add_evidence(path, evidence_rows([tmp_path / "out"]))
    write_run(tmp_path / "out", tile_pairs, 2, 52.0)
    write_run(tmp_path / "more", tile_pairs, 1, 60.0, unlabelled=40)
    add_evidence(path, evidence_rows([tmp_path / "out", tmp_path / "more"]))
    table = read_evidence(path)
    assert list(table.columns) == list(COLUMNS)
    assert table["AP"].tolist() == [50.0, 52.0, 60.0]
    assert table["unlabelled slides"].tolist() == [0, 0, 40]
    first = table.iloc[0]
    assert (first["labelled slides"], first["s of training"], first["recall <100 um"], first["commit"]) == (
        1,
        20,
        50,
        "abc",
    )
    lines = evidence_markdown(table).splitlines()
    assert lines[2].startswith("| strict | 40 | 1 | 0 | 8 | 4 | 2 | 51.0 +- 1.4 |")
    assert lines[3].startswith("| strict | 40 | 1 | 40 | 8 | 4 | 1 | 60.0 |")


def test_gains_are_over_plain_and_towards_the_oracle() -> None:
    runs = [
        *(("plain", seed, 8, 0, 1, ap) for seed, ap in ((1, 50.0), (2, 40.0))),
        *(("features_finer_labels", seed, 8, 40, 1, ap) for seed, ap in ((1, 60.0), (2, 50.0))),
        ("oracle", 1, 48, 0, 1, 57.5),
        ("strict_labels", 1, 8, 40, 4, 75.0),  # its oracle has not been run
        ("plain", 1, 4, 0, 1, 30.0),
    ]
    names = ["control", "seed", "labelled slides", "unlabelled slides", "u", "AP"]
    table = pd.DataFrame(runs, columns=names).reindex(columns=list(COLUMNS))
    table = table.assign(**{"iterations": 5000, "um/px": 8.0, "split": "test"})
    cells = {(row[1], row[3]): row[-5:-3] for row in map(str_cells, evidence_markdown(table).splitlines()[2:])}
    assert cells == {
        ("plain", "8"): ["-", "-"],
        ("features_finer_labels", "8"): ["+22.5 % (+20.0, +25.0)", "80 %"],
        ("oracle", "48"): ["-", "-"],
        ("strict_labels", "8"): ["+50.0 %", "-"],
        ("plain", "4"): ["-", "-"],
    }


def str_cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def test_rows_of_which_something_is_not_known_are_shown(tile_pairs: Path, tmp_path: Path) -> None:
    """The untrained teacher has no configuration, and results of before no u."""
    write_run(tmp_path / "out", tile_pairs, 1, 50.0, control="untrained")
    folder = tmp_path / "out" / "untrained" / "seed1"
    for name in ("config.yaml", "metrics.json", "run.json"):
        (folder / name).unlink()
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({key: result[key] for key in result if key != "upsample"}))
    write_run(tmp_path / "out", tile_pairs, 1, 90.0, control="teacher")  # of another folder, where it has its row
    (tmp_path / "out" / "teacher" / "seed1" / "config.yaml").unlink()
    for _ in range(2):
        table = add_evidence(tmp_path / "evidence.csv", evidence_rows([tmp_path / "out"]))
    assert evidence_markdown(table).splitlines()[2:] == [ANY_UNTRAINED]


ANY_UNTRAINED = (
    "| untrained | 40 | - | - | 8 | - | 1 | 50.0 | 80.0 | 60.0 | 70.0 | 75.0 | 50.0 | - | - | - | - | - | - | 1.5 |"
)


def test_what_is_no_evidence_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        evidence_rows([tmp_path])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"other\.csv: not a table of evidence"):
        read_evidence(tmp_path / "other.csv")
