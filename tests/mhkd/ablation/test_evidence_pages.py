from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mhkd.ablation.evidence import COLUMNS
from mhkd.ablation.evidence_pages import outdated_pages, write_pages
from preprocess.base.errors import UserError

PAGE = """# Results

Text with `<!-- evidence: NAME -->` in it.

<!-- evidence: demo-s4 plain -->
<!-- end -->

More.

<!-- evidence figure: demo-s4 -->
what was there before
<!-- end -->
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "evidence").mkdir(parents=True)
    (tmp_path / "docs" / "images").mkdir()
    (tmp_path / "README.md").write_text("# Name\n")
    (tmp_path / "docs" / "results.md").write_text(PAGE)
    write_rows(tmp_path, 50.0)
    return tmp_path


def write_rows(root: Path, ap: float) -> None:
    runs = [("plain", 1, 8, 0, 1, ap), ("plain", 1, 4, 0, 1, 30.0), ("oracle", 1, 48, 0, 1, 57.5)]
    names = ["control", "seed", "labelled slides", "unlabelled slides", "u", "AP"]
    table = pd.DataFrame(runs, columns=names).reindex(columns=list(COLUMNS))
    table = table.assign(**{"iterations": 5000, "um/px": 8.0, "split": "test"})
    table.to_csv(root / "docs" / "evidence" / "demo-s4.csv", index=False)


def test_tables_and_figures_follow_their_rows_and_nothing_else_changes(root: Path) -> None:
    assert len(outdated_pages(root)) == 2
    assert write_pages(root) == [Path("docs/results.md")]
    text = (root / "docs" / "results.md").read_text()
    assert text.count("\n| plain |") == 2
    assert "| oracle |" not in text
    assert "before" not in text
    assert "](images/evidence_demo-s4.svg)\n<!-- end -->\n" in text
    picture = root / "docs" / "images" / "evidence_demo-s4.svg"
    assert "plain, 4 + 0 slides" in picture.read_text()
    assert (outdated_pages(root), write_pages(root)) == ([], [])
    drawn = picture.read_bytes()
    write_rows(root, 51.0)
    assert len(outdated_pages(root)) == 2
    write_pages(root)
    assert picture.read_bytes() != drawn
    assert outdated_pages(root) == []
    (root / "docs" / "results.md").write_text(text.replace("| plain | 5000", "| plain | 9000", 1))
    assert outdated_pages(root) == ["docs/results.md: demo-s4 is another now"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("demo-s4 plain", "demo-s4 strict", r"no row of strict, which a table of docs/results\.md shows"),
        ("demo-s4 plain", "gone", r"gone\.csv"),
        ("<!-- end -->\n\nMore.", "More.", "a place for evidence is not understood"),
        ("demo-s4 plain -->", "demo-s4, plain -->", "a place for evidence is not understood"),
    ],
)
def test_what_has_no_row_or_no_end_is_named(root: Path, old: str, new: str, message: str) -> None:
    page = root / "docs" / "results.md"
    page.write_text(before := PAGE.replace(old, new))
    with pytest.raises(UserError, match=message):
        write_pages(root)
    assert page.read_text() == before
    assert len(outdated_pages(root)) == 1


def test_this_repository_shows_what_its_evidence_says() -> None:
    assert outdated_pages(Path(__file__).parents[3]) == []
