"""What the builders of all cohorts share: what is looked for, how a slide is looked at, how the table is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from preprocess.base.errors import UserError
from preprocess.base.files import relative_path, write_csv
from preprocess.base.geometry import Size
from preprocess.base.text_table import read_text_table
from preprocess.slides.slide import Slide
from preprocess.slides.table import SPLITS, check_patients
from preprocess.tiles.splits import Fractions, balance_splits

DOWNLOAD_AGAIN = "the download is not complete: download it again"


@dataclass(frozen=True)
class CohortTable:
    """The annotated slides of a cohort, one row each, and ``notes``: what a user should know of what was found.

    ``table`` has the columns slide and annotation (paths), mpp (None where the slide says it itself), mpp_source,
    patient, split, and what the cohort tells of its slides beside them.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def write(self, path: str | Path) -> None:
        """Write the table, atomically, its paths relative to its folder; UserError where a patient is in two splits."""
        check_patients(self.table)
        table = self.table.copy()
        for column in ("slide", "annotation"):
            table[column] = [relative_path(file, Path(path).parent) for file in table[column]]
        write_csv(Path(path), table)

    def lines(self) -> list[str]:
        """The splits in a line each, for people."""
        parts = {name: part for name, part in self.table.groupby("split")}
        return [
            f"{name}: {len(parts[name])} slides, {parts[name]['patient'].nunique()} patients"
            for name in SPLITS
            if name in parts
        ]


class Builder(Protocol):
    """Builds the table of one cohort.

    folder: the unpacked download. extras: a folder, perhaps missing, for annotation files that the download has not in
    a form that can be read. mpp: um per level-0 pixel of slides that do not say. fractions: deal patients anew to
    train, val and test; None: as the cohort recommends. Raises UserError, naming the file, for what is missing,
    damaged or unknown.
    """

    def __call__(
        self, folder: Path, extras: Path, *, mpp: float | None = None, fractions: Fractions | None = None
    ) -> CohortTable: ...


def files_below(folder: Path, *patterns: str) -> list[Path]:
    """The files below ``folder`` that match one of ``patterns``, sorted, without the shadows that macOS leaves."""
    if not folder.is_dir():
        raise UserError("no such folder", path=folder, remedy="give the folder that the archives were unpacked into")
    found = {path for pattern in patterns for path in folder.rglob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.name.startswith("._"))


def read_cohort_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The table ``path`` of a cohort as text, empty where a value is missing; UserError without ``columns``."""
    table = read_text_table(path, columns.__contains__)
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"no column {missing[0]!r}", path=path, remedy="it is not the cohort's file of this name")
    return table


def by_name(files: Iterable[Path]) -> dict[str, Path]:
    """``files`` by their names without suffix; UserError where a name comes twice."""
    named: dict[str, Path] = {}
    for path in files:
        if (other := named.setdefault(path.stem, path)) is not path:
            raise UserError(f"the same image as {other}", path=path, remedy="remove one of the two copies")
    return named


@dataclass(frozen=True)
class SlideInfo:
    """A slide that was looked at: its name and size, the ``mpp`` to give it (None: it says so itself), who says so."""

    name: str
    size: Size
    mpp: float | None
    mpp_source: str


def inspect_slide(path: Path, mpp: float | None) -> SlideInfo:
    """Open the slide at ``path``; UserError where that fails or no mpp is known. mpp: of a slide that does not say."""
    if path.stat().st_size == 0:
        raise UserError("the file is empty", path=path, remedy=DOWNLOAD_AGAIN)
    try:
        with Slide.open(path) as slide:
            if mpp is None or "estimate" not in slide.mpp_source:
                return SlideInfo(slide.name, slide.size, None, slide.mpp_source)
    except UserError:
        if mpp is None:
            raise
    with Slide.open(path, mpp) as slide:
        return SlideInfo(slide.name, slide.size, mpp, "given")


def table_row(slide: Path, annotation: Path, info: SlideInfo, patient: str, **others: str) -> dict[str, Any]:
    """A row of a cohort's table; ``others`` are the columns that come after those that all cohorts have."""
    return {
        "slide": slide,
        "annotation": annotation,
        "mpp": info.mpp,
        "mpp_source": info.mpp_source,
        "patient": patient,
        **others,
    }


def with_splits(rows: Sequence[dict[str, Any]], fractions: Fractions, stratum: str | None = None) -> pd.DataFrame:
    """``rows`` as a table whose column ``split`` gives whole patients to train, val and test, always the same way.

    A published cohort does not grow, so its few patients are shared out exactly, and by chance nowhere. stratum: the
    column that each split gets its share of.
    """
    table = pd.DataFrame(list(rows))
    strata = table[stratum].tolist() if stratum else None
    return table.assign(split=balance_splits(table["patient"].tolist(), fractions, 0, strata))


def short_list(names: Iterable[str], most: int = 5) -> str:
    """``a, b, c and 12 more``."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
