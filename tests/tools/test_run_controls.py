from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from preprocess.base.errors import UserError
from tests.mhkd.conftest import DEMO, TINY
from tools import make_tiles, run_controls

OVERRIDES = [str(x) for key, value in TINY.items() if key != "SOLVER.MAX_ITER" for x in (key, value)]


@pytest.fixture(scope="module")
def tiles(slides_csv, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / "tiles"
    options = ("--tile-px", "128", "--teacher-mpp", "2", "--student-mpp", "8", "--workers", "0")
    assert make_tiles.main([str(slides_csv), "--output-dir", str(folder), *options]) == 0
    return folder


def run(slides_csv, tiles, output, *options, overrides=()):
    return run_controls.main(
        [
            *("--configs", str(DEMO), "--tiles", str(tiles), "--slides", str(slides_csv), "--output-dir", str(output)),
            *("--iterations", "4", "--teacher-iterations", "4", "--seeds", "1", "--device", "cpu"),
            *("--jobs", "0", "--teacher-opts", " ".join(OVERRIDES), *options, "--", *OVERRIDES, *overrides),
        ]
    )


def modified(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.glob("*/seed1/detector.pth"))}


def test_controls_make_a_table_and_are_not_run_twice(slides_csv, tiles, tmp_path, capsys):
    output = tmp_path / "controls"
    assert run(slides_csv, tiles, output, "--controls", "teacher,untrained,strict,phases1234") == 0
    printed = capsys.readouterr().out
    for name, iterations in {"teacher": 4, "untrained": 0, "strict": 4, "phases1234": 4}.items():
        assert f"| {name} |" in printed
        result = json.loads((output / name / "seed1" / "result.json").read_text())
        assert (result["iterations"], result["scores"]["num_objects"]) == (iterations, 5)
    runs = pd.read_csv(output / "controls.csv").set_index("control")
    assert runs["s per iteration"].notna().to_dict() == {
        "teacher": True,
        "strict": True,
        "phases1234": True,
        "untrained": False,
    }
    before = modified(output)
    assert len(before) == 4
    assert run(slides_csv, tiles, output, "--controls", "strict") == 0
    assert modified(output) == before
    # A teacher of elsewhere is scored and not trained; one that is missing costs its seed, in one line.
    assert run(slides_csv, tiles, tmp_path / "b", "--controls", "strict", "--teachers", str(output)) == 0
    assert not (tmp_path / "b" / "teacher" / "seed1" / "detector.pth").exists()
    capsys.readouterr()
    assert run(slides_csv, tiles, tmp_path / "c", "--controls", "strict", "--teachers", str(tmp_path)) == 1
    assert "failed: teacher, seed 1: " in capsys.readouterr().err
    check_that_other_rows_are_not_mixed_in(slides_csv, tiles, output, capsys)


def check_that_other_rows_are_not_mixed_in(slides_csv, tiles, output, capsys):
    """A row that is added with other settings fails, and so do the finished ones; nothing of theirs changes."""
    before, table = modified(output), (output / "controls.csv").read_bytes()

    def failures(*options, overrides=()) -> str:
        assert run(slides_csv, tiles, output, *options, overrides=overrides) in {1, 3}  # of none, of some
        return capsys.readouterr().err

    assert "failed: strict, seed 1: " in (said := failures("--controls", "strict", "--iterations", "6"))
    assert "SOLVER.MAX_ITER 4 (now 6)" in said
    said = failures("--controls", "strict", overrides=("SOLVER.BASE_LR", "0.25"))
    assert "strict/seed1: holds a run with SOLVER.BASE_LR" in said
    # The teacher of this very folder, and that folder's as the teacher of others: without it no student is trained.
    other = ("--controls", "strict,joint", "--teacher-iterations", "6")
    assert "teacher/seed1: holds a run with SOLVER.MAX_ITER 4 (now 6)" in failures(*other)
    elsewhere = output.parent / "d"
    assert run(slides_csv, tiles, elsewhere, *other, "--teachers", str(output)) == 1
    assert "trained with SOLVER.MAX_ITER 4 (here 6)" in capsys.readouterr().err
    assert not (elsewhere / "joint").exists()
    assert not (output / "joint").exists()
    assert modified(output) == before
    assert (output / "controls.csv").read_bytes() != table


def test_unknown_controls_and_seeds_are_refused(slides_csv, tiles, tmp_path):
    with pytest.raises(UserError, match="no control is called stricter"):
        run(slides_csv, tiles, tmp_path / "out", "--controls", "strict,stricter")
    with pytest.raises(UserError, match="one,two"):
        run_controls.main(
            ["--tiles", str(tiles), "--slides", str(slides_csv), "--output-dir", str(tmp_path), "--seeds", "one,two"]
        )


def test_controls_that_want_unannotated_slides_say_so(slides_csv, tiles, tmp_path):
    with pytest.raises(UserError, match="placebo wants slides that nobody annotated"):
        run(slides_csv, tiles, tmp_path, "--controls", "placebo")
    assert "placebo" not in run_controls.build_parser().get_default("controls")
