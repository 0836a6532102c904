"""The tables and figures of README.md and docs/ that are made from docs/evidence/, and whether they still agree.

A table stands between ``<!-- evidence: NAME -->`` and ``<!-- end -->``, a figure of AP between ``<!-- evidence figure:
NAME -->`` and ``<!-- end -->``. NAME is that of a CSV in docs/evidence; behind it may stand which controls, as in
``<!-- evidence: NAME plain,oracle -->``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mhkd.ablation.evidence import evidence_markdown, read_evidence
from mhkd.ablation.report import plot_ap
from preprocess.base.errors import UserError
from preprocess.base.files import write_text

FOLDER, PICTURES = Path("docs/evidence"), Path("docs/images")
_BLOCK = re.compile(
    r"^(?P<begin><!-- evidence(?P<figure> figure)?: (?P<name>[\w-]+)(?: (?P<controls>[\w.,]+))? -->\n)"
    r"(?P<content>(?:(?!<!-- evidence).*\n)*?)(?=<!-- end -->$)",
    re.MULTILINE,
)
_BEGIN = re.compile(r"^<!-- evidence\b", re.MULTILINE)


@dataclass(frozen=True)
class _Block:
    """A place in ``page`` for a table or a figure, with what stands there (``content``)."""

    root: Path
    page: Path
    name: str
    controls: tuple[str, ...]
    is_figure: bool
    content: str

    @property
    def rows(self) -> pd.DataFrame:
        """What is shown. Raises UserError where there is no such table, or no row of a control."""
        path = self.root / FOLDER / f"{self.name}.csv"
        table = read_evidence(path)
        if absent := [name for name in self.controls if name not in set(table["control"])]:
            raise UserError(f"no row of {absent[0]}, which a table of {self.page} shows", path=path)
        return table

    @property
    def picture(self) -> Path:
        """Where the figure lies, from the root."""
        return PICTURES / f"{'_'.join(['evidence', self.name, *self.controls])}.svg"

    def expected(self) -> str:
        """What has to stand there."""
        if not self.is_figure:
            return evidence_markdown(self.rows, self.controls)
        link = Path(os.path.relpath(self.picture, self.page.parent)).as_posix()
        return f"![AP of {', '.join(self.controls) or 'all controls'} ({self.name})]({link})\n"

    def _plotted(self) -> tuple[pd.DataFrame, str]:
        """The runs of the figure, and what its file says of where they are from: their hash."""
        rows = self.rows
        rows = rows[rows["control"].isin(self.controls)] if self.controls else rows
        if rows.groupby("control")[["labelled slides", "unlabelled slides"]].nunique().gt(1).any(axis=None):
            slides = rows[["labelled slides", "unlabelled slides"]].apply(
                lambda row: "{:.0f} + {:.0f}".format(*row), axis=1
            )
            rows = rows.assign(control=rows["control"] + ", " + slides + " slides")
        shown = rows[["control", "AP"]]
        return shown, hashlib.sha256(shown.to_csv(index=False).encode()).hexdigest()

    def draw(self) -> None:
        """Write the figure."""
        rows, identifier = self._plotted()
        plot_ap(rows, self.root / self.picture, {"Creator": None, "Date": None, "Identifier": identifier})

    def is_current(self) -> bool:
        """Whether page and figure show what the table says."""
        if self.content != self.expected():
            return False
        path = self.root / self.picture
        return not self.is_figure or (path.is_file() and self._plotted()[1] in path.read_text(encoding="utf-8"))


def write_pages(root: Path) -> list[Path]:
    """Bring all tables and figures below ``root`` up to date; the pages that were others, from ``root``.

    Raises:
        UserError: a table or a row that a page shows is not there, or a place has no end.
    """
    changed = []
    for page in _pages(root):
        text = (root / page).read_text(encoding="utf-8")
        blocks = _blocks(root, page, text)
        old = [block for block in blocks if not block.is_current()]
        for block in old:
            if block.is_figure:
                block.draw()
        if old:
            write_text(root / page, _filled(text, [block.expected() for block in blocks]))
            changed.append(page)
    return changed


def outdated_pages(root: Path) -> list[str]:
    """One line for each table or figure below ``root`` that does not show what its CSV says."""
    found = []
    for page in _pages(root):
        try:
            blocks = _blocks(root, page, (root / page).read_text(encoding="utf-8"))
            found += [f"{page}: {block.name} is another now" for block in blocks if not block.is_current()]
        except UserError as error:
            found.append(f"{page}: {error}")
    return found


def _filled(text: str, contents: Iterable[str]) -> str:
    left = iter(contents)
    return _BLOCK.sub(lambda match: match["begin"] + next(left), text)


def _pages(root: Path) -> list[Path]:
    return [path.relative_to(root) for path in (root / "README.md", *sorted((root / "docs").rglob("*.md")))]


def _blocks(root: Path, page: Path, text: str) -> list[_Block]:
    found = []
    for match in _BLOCK.finditer(text):
        controls = tuple(match["controls"].split(",")) if match["controls"] else ()
        found.append(_Block(root, page, match["name"], controls, bool(match["figure"]), match["content"]))
    if len(found) != len(_BEGIN.findall(text)):
        raise UserError(
            "a place for evidence is not understood",
            path=root / page,
            remedy="write <!-- evidence: NAME --> or <!-- evidence: NAME plain,oracle -->, and <!-- end --> below",
        )
    return found
