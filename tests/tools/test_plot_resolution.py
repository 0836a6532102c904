from __future__ import annotations

import pandas as pd

from tests.mhkd.ablation.test_resolution import COARSE, FINE, write
from tools import plot_resolution


def test_one_command_from_the_tables_to_the_figure(tmp_path, capsys):
    tables = [write(tmp_path / "s2", FINE), write(tmp_path / "s4", COARSE)]
    output = tmp_path / "out"
    assert plot_resolution.main([*map(str, tables), "--output-dir", str(output), "--controls", "teacher,strict"]) == 0
    assert {path.name for path in output.iterdir()} == {f"resolution.{s}" for s in ("csv", "md", "pdf", "svg", "png")}
    points = pd.read_csv(output / "resolution.csv")
    assert list(points["AP"]) == [67.0, 62.0, 40.0]
    printed = capsys.readouterr().out
    assert "Not run: LR baseline, strict at 12 um/px (1 of 2 seeds)." in printed
    assert str(output / "resolution.pdf") in printed
