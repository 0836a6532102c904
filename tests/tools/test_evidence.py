from __future__ import annotations

from pathlib import Path

import pytest

from tools import evidence


@pytest.mark.parametrize(
    "arguments",
    [["add", "--csv", "a.csv"], ["show", "folder", "--csv", "a.csv"], ["show"], ["write", "--csv", "a.csv"]],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        evidence.main(arguments)


def test_a_table_without_its_rows_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("nothing\n")
    assert evidence.main(["check", "--root", str(tmp_path)]) == 0
    assert evidence.main(["write", "--root", str(tmp_path)]) == 0
    (tmp_path / "README.md").write_text("<!-- evidence: gone -->\n| plain | 50.0 |\n<!-- end -->\n")
    assert evidence.main(["check", "--root", str(tmp_path)]) == 1
    assert "gone.csv" in capsys.readouterr().out
