"""The table of a cohort: ``slides.csv``, one row per slide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from preprocess.base.errors import UserError, named
from preprocess.base.files import safe_name
from preprocess.base.geometry import MAX_MPP, MIN_MPP

SPLITS = ("train", "val", "test")

_SCAN_COLUMNS = ("student_slide", "student_mpp", "student_transform")

SLIDES_COLUMNS = ("slide", "annotation", "mpp", "patient", "split", "labelled", "origin", *_SCAN_COLUMNS)
"""``slides.csv``: only ``slide`` must be there; other columns are kept."""


def read_slides_csv(path: str | Path, *, for_training: bool = True) -> pd.DataFrame:
    """The cohort table ``path``: one row per slide, with the columns of ``SLIDES_COLUMNS`` and all others.

    ``slide``, ``annotation`` and ``student_slide`` are absolute paths, resolved against the folder of the
    table; ``mpp`` and ``student_mpp`` are floats; ``labelled`` is False for a slide of which nobody says what is
    there, and True where it is not given; any other value that is not given is NaN. Raises UserError if
    there is no column ``slide``, a row names no slide, a slide or a slide's name comes twice, an mpp is no
    plausible number, a split is not train, val or test, a patient is in two splits, or none of the slides
    exists. A single missing file is left to whoever opens it, so that it does not stop the other slides.
    Not ``for_training``, split and labelled may be anything.
    """
    path = Path(path)
    table = _read_slides_table(path)
    with named(path):
        _check_slides_table(table, path.parent)
        if for_training:
            _check_split_names(table)
            check_patients(table)
            _check_labelled(table)
    return table.reset_index(drop=True)


def slide_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as :func:`read_slides_csv` returns it, with None for what is not given."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def check_patients(table: pd.DataFrame) -> None:
    """UserError if a patient of ``table`` (columns patient, split) is in two splits."""
    for patient, splits in table.dropna(subset=["patient", "split"]).groupby("patient")["split"]:
        found = [name for name in SPLITS if name in set(splits)]
        if len(found) > 1:
            raise UserError(
                f"patient {patient!r} is in two splits: {' and '.join(found)}",
                remedy="give all slides of a patient the same split",
            )


def _read_slides_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError("no such slides table", path=path, remedy="give a CSV file with the column slide")
    try:
        with path.open(encoding="utf-8-sig") as stream:
            header = stream.readline()
        # A spreadsheet writes semicolons where the comma is the decimal sign.
        separator = ";" if ";" in header and "," not in header else ","
        table = pd.read_csv(path, sep=separator, dtype=str, encoding="utf-8-sig", skipinitialspace=True)
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"not a readable CSV file: {error}", path=path, remedy="save it as CSV in UTF-8") from error
    table.columns = table.columns.str.strip()
    table = table.map(str.strip, na_action="ignore").replace("", float("nan")).dropna(how="all")
    if "slide" not in table.columns:
        raise UserError("no column 'slide'", path=path, remedy=f"the columns are {', '.join(SLIDES_COLUMNS)}")
    if table.empty:
        raise UserError("the table lists no slide", path=path, remedy="add one row per slide")
    return table.reindex(columns=[*SLIDES_COLUMNS, *(c for c in table.columns if c not in SLIDES_COLUMNS)])


def _check_slides_table(table: pd.DataFrame, folder: Path) -> None:
    """Bring ``table`` into the form that :func:`read_slides_csv` promises, in place."""
    if table["slide"].isna().any():
        raise UserError(f"line {table.index[table['slide'].isna()][0] + 2} names no slide")
    for column in ("slide", "annotation", "student_slide"):
        table[column] = table[column].map(lambda name: str((folder / name).absolute()), na_action="ignore")
    for column in ("mpp", "student_mpp"):
        text = table[column].map(lambda text: text.replace(",", "."), na_action="ignore")
        mpp = pd.to_numeric(text, errors="coerce").astype("float64")
        wrong = text.notna() & ~mpp.between(MIN_MPP, MAX_MPP)
        if wrong.any():
            row = table[wrong].iloc[0]
            raise UserError(
                f"{column} {row[column]!r} of {Path(row['slide']).name} is not {MIN_MPP:g} to {MAX_MPP:g} um/px",
                remedy="give micrometres per level-0 pixel, or leave it empty to use the slide's own",
            )
        table[column] = mpp
    table["split"] = table["split"].map(str.lower, na_action="ignore")
    # Some file systems take names that differ in case only for one.
    names = table["slide"].map(safe_name)
    if (again := names.map(str.lower).duplicated()).any():
        raise UserError(
            f"two slides are named {names[again].iloc[0]!r}", remedy="list each slide once; rename one of the files"
        )
    if not table["slide"].map(lambda name: Path(name).exists()).any():
        raise UserError(
            f"none of its slides exists, such as {table['slide'].iloc[0]}",
            remedy="paths are relative to the folder of the table",
        )


def _check_split_names(table: pd.DataFrame) -> None:
    unknown = set(table["split"].dropna()) - set(SPLITS)
    if unknown:
        raise UserError(f"unknown split {sorted(unknown)[0]!r}", remedy=f"the splits are {', '.join(SPLITS)}")


def _check_labelled(table: pd.DataFrame) -> None:
    """Make the column ``labelled`` one of bool. Slides to validate and test on must be labelled."""
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    said = table["labelled"].map(str.lower, na_action="ignore")
    if unknown := set(said.dropna()) - set(words):
        raise UserError(f"labelled is {sorted(unknown)[0]!r}", remedy="write yes or no; empty is yes")
    table["labelled"] = said.map(words).fillna(True).astype(bool)
    wrong = table[~table["labelled"] & table["split"].isin(SPLITS[1:])]
    if len(wrong):
        name, split = Path(wrong["slide"].iloc[0]).name, wrong["split"].iloc[0]
        raise UserError(f"{name} is not labelled, and in the split {split}", remedy="only train takes such slides")
