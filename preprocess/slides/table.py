"""The table of a cohort: ``slides.csv``, one row per slide."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from preprocess.base.console import note
from preprocess.base.errors import UserError, named
from preprocess.base.files import distinct_names
from preprocess.base.geometry import MAX_MPP, MIN_MPP
from preprocess.base.text_table import read_text_table
from preprocess.slides.files import fingerprint, slide_files

SPLITS = ("train", "val", "test")
_SPLIT_OF = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}

_ALIASES: dict[str, tuple[str, ...]] = {
    "slide": ("wsi", "slidepath", "slidefile", "image", "imagepath", "file", "filename", "path"),
    "annotation": ("annotations", "annotationpath", "annotationfile", "geojson", "mask"),
    "mpp": ("umperpx", "umperpixel", "umpx", "umpixel", "micronsperpixel", "pixelsize", "pixelsizeum"),
    "patient": (
        *("patientid", "patients", "patientno", "patientnr", "patientnumber", "patientname", "patientenid"),
        *("patientennr", "case", "caseid", "caseno", "casenr", "subject", "subjectid", "donor", "donorid"),
        *("participant", "participantid", "individual", "animal", "animalid", "pid", "mrn", "casesubmitterid"),
    ),
    "split": ("set", "subset", "splits", "partition", "dataset", "datasplit", "phase"),
    "labelled": ("labeled", "annotated"),
    "origin": ("annotationorigin",),
    "student_slide": (),
    "student_mpp": (),
    "student_transform": (),
}
"""The columns that mean something, each with other names for it, in the form of :func:`_plain`."""

SLIDES_COLUMNS = tuple(_ALIASES)
"""``slides.csv``: only ``slide`` must be there; other columns are kept."""

OUTPUT_NAME = "output_name"
"""The column that :func:`read_slides_csv` adds: what outputs call the slide, another name for each."""

_NO_NUMBERS = {"na", "n/a", "nan", "none", "null", "-"}
"""How programs write that a number is not given."""
_PATHS = ("slide", "annotation", "student_slide")
_PASSED_ON = {OUTPUT_NAME, "mpp_source", "source", "stain", "preservation", "reviewed", "group", "glomeruli", "licence"}
"""What tables of public cohorts say besides, so that it needs no word."""


def read_slides_csv(path: str | Path, *, for_training: bool = True, used: Iterable[str] = ()) -> pd.DataFrame:
    """The cohort table ``path``: one row per slide, with ``SLIDES_COLUMNS``, ``output_name`` and all other columns.

    Names of columns may have any case; a usual other name such as ``patient_id`` is taken, and a column that is neither
    known nor ``used`` is mentioned. ``slide``, ``annotation`` and ``student_slide`` are absolute paths, resolved
    against the folder of the table; ``mpp`` and ``student_mpp`` are floats; ``labelled`` is False for a slide of which
    nobody says what is there, and True where it is not given; all else is text; a value that is not given is NaN. A
    single missing file is left to whoever opens it, so that it does not stop the other slides.

    Not ``for_training``, split and labelled may be anything, and what could put a patient into two splits is mentioned
    alone.

    Raises:
        UserError: the file is no table (:func:`preprocess.base.text_table.read_text_table`); there is no column
            ``slide``; a row names no slide, or one that another names; an mpp is no plausible number; none of the
            slides exists; a split is not train, val or test; a patient is in two splits, or might be, since it is
            written in two ways or not in every row; or the same pixels are under two patients or in two splits.
    """
    path = Path(path)
    table = read_text_table(path, _is_known)
    with named(path):
        table = _known_columns(table, path, used).replace("", float("nan"))
        _check_slides_table(table, path.parent)
        if for_training:
            _check_split_names(table)
            check_patients(table)
            _check_labelled(table)
        for reason, remedy in _doubtful_patients(table):
            if for_training:
                raise UserError(reason, remedy=remedy)
            note(f"{path}: {reason} ({remedy})")
        if for_training:
            _check_copies(table)
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


def _known_columns(table: pd.DataFrame, path: Path, used: Iterable[str]) -> pd.DataFrame:
    """``table`` with ``SLIDES_COLUMNS`` first, under these names, and all others; what is not used is mentioned."""
    name_of = {column: name for column in table if (name := _exact(column))}
    if again := [name for name in name_of.values() if list(name_of.values()).count(name) > 1]:
        raise UserError(f"two columns are named {again[0]!r}", remedy="leave one of them out")
    for name, aliases in _ALIASES.items():
        others = sorted((c for c in table if _plain(c) in aliases), key=lambda c: aliases.index(_plain(c)))
        if name in name_of.values() or not others or (name == "split" and not _are_splits(table[others[0]])):
            continue
        name_of[others[0]] = name
        note(f"{path}: the column {others[0]!r} is read as {name}")
    if "slide" not in name_of.values():
        reason = f"no column 'slide' among {', '.join(map(repr, table))}"
        raise UserError(reason, remedy=f"the columns are {', '.join(SLIDES_COLUMNS)}")
    passed_on = {_plain(name) for name in (*_PASSED_ON, *used)}
    if unused := [column for column in table if column not in name_of and _plain(column) not in passed_on]:
        note(f"{path}: not used: {', '.join(map(_describe, unused))}")
    table = table.rename(columns=name_of)
    others = [column for column in table if column not in SLIDES_COLUMNS]
    table = table.reindex(columns=[*SLIDES_COLUMNS, *others])
    return table.astype(object)


def _plain(name: str) -> str:
    """``Patient ID`` -> ``patientid``, ``MPP (um)`` -> ``mpp``."""
    return re.sub(r"\W*\(.*?\)|\W*\[.*?\]|[\W_]+", "", re.sub("[µμ]m", "um", name).casefold())


def _exact(column: str) -> str | None:
    return next((name for name in SLIDES_COLUMNS if _plain(name) == _plain(column)), None)


def _is_known(column: str) -> bool:
    return bool(_exact(column)) or any(_plain(column) in aliases for aliases in _ALIASES.values())


def _describe(column: str) -> str:
    """``'pateint' (did you mean patient?)``."""
    names = {_plain(alias): name for name, aliases in _ALIASES.items() for alias in (name, *aliases)}
    near = difflib.get_close_matches(_plain(column), names, n=1, cutoff=0.75)
    return repr(column) + (f" (did you mean {names[near[0]]}?)" if near else "")


def _are_splits(column: pd.Series) -> bool:
    """Whether some cells are splits: the others may be misspelled."""
    return bool(set(map(_split, column)) & set(SPLITS))


def _split(text: str) -> str:
    return _SPLIT_OF.get(text.lower(), text.lower())


def _check_slides_table(table: pd.DataFrame, folder: Path) -> None:
    """Bring ``table``, whose index are line numbers, into the form that :func:`read_slides_csv` promises, in place."""
    if table.empty:
        raise UserError("the table lists no slide", remedy="add one row per slide")
    if table["slide"].isna().any():
        raise UserError(f"line {table.index[table['slide'].isna()][0]} names no slide")
    for column in _PATHS:
        table[column] = table[column].map(lambda name: str(_locate(folder, name)), na_action="ignore")
    for column in ("mpp", "student_mpp"):
        table.loc[table[column].str.lower().isin(_NO_NUMBERS), column] = float("nan")
        text = table[column].map(lambda text: text.replace(",", "."), na_action="ignore")
        mpp = pd.to_numeric(text, errors="coerce").astype("float64")
        wrong = text.notna() & ~mpp.between(MIN_MPP, MAX_MPP)
        if wrong.any():
            row = table[wrong].iloc[0]
            raise UserError(
                f"line {row.name}: {column} {row[column]!r} of {Path(row['slide']).name} is not "
                f"{MIN_MPP:g} to {MAX_MPP:g} um/px",
                remedy="give micrometres per level-0 pixel, or leave it empty to use the slide's own",
            )
        table[column] = mpp
    table["split"] = table["split"].map(_split, na_action="ignore")
    if (again := table["slide"].duplicated()).any():
        row = table[again].iloc[0]
        raise UserError(f"line {row.name} lists {Path(row['slide']).name} again", remedy="list each slide once")
    table[OUTPUT_NAME] = distinct_names(table["slide"])
    if not table["slide"].map(os.path.exists).any():
        raise UserError(
            f"none of its slides exists, such as {table['slide'].iloc[0]}",
            remedy="paths are relative to the folder of the table",
        )


def _locate(folder: Path, name: str) -> Path:
    """The absolute path of the file that a cell names, as it is spelled on the disk: perhaps with slashes for
    backslashes, and with letters and accents composed or apart."""
    spellings = dict.fromkeys((name, name.replace("\\", "/")))
    paths = [(folder / spelling).absolute() for spelling in spellings]
    return next((found for found in map(_as_on_disk, paths) if found.exists()), paths[-1])


def _as_on_disk(path: Path) -> Path:
    if path == path.parent or path.exists():
        return path
    parent = _as_on_disk(path.parent)
    spellings = (parent / unicodedata.normalize(form, path.name) for form in ("NFC", "NFD"))
    return next((spelling for spelling in spellings if spelling.exists()), parent / path.name)


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


def _doubtful_patients(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Why slides of one patient might come into two splits, and what to do about each reason."""
    doubts = []
    written: dict[str, str] = {}
    for patient in table["patient"].dropna().unique():
        other = written.setdefault(_spelled_plainly(patient), patient)
        if other != patient:
            how = "in case, blanks, dashes or leading zeros"
            doubts.append((f"the patients {other!r} and {patient!r} differ {how} only", "write them alike"))
    # In a spreadsheet the merged cells of a block are a value in its first row and nothing in the others.
    filled = table.assign(patient=table["patient"].ffill()).dropna(subset=["patient"])
    several = filled.groupby("patient")["split"].agg(lambda split: split.isna().any() or split.nunique() > 1)
    merged = filled[table["patient"].isna().loc[filled.index] & filled["patient"].map(several)]
    if len(merged):
        reason = f"line {merged.index[0]} has no patient, below one of {merged['patient'].iloc[0]!r}: a merged cell?"
        doubts.append((reason, "fill the column patient in each row, or in none"))
    return doubts


def _spelled_plainly(name: str) -> str:
    """``name`` without what spreadsheets and hands change: case, width, blanks, kinds of dashes, leading zeros, .0."""
    name = re.sub(r"\s+", "", unicodedata.normalize("NFKC", name).casefold())
    name = "".join("-" if unicodedata.category(sign) in {"Pd", "Pc"} else sign for sign in name)
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"(?<=\d)\.0+$", "", name))


def _check_copies(table: pd.DataFrame) -> None:
    """UserError where two rows with the same pixels, whatever their files are called, may come into two splits."""
    rows_of_size: dict[int, list[tuple[Any, str]]] = defaultdict(list)
    for column in ("slide", "student_slide"):
        for line, path in table[column].dropna().items():
            if os.path.isfile(path) and (size := sum(file.stat().st_size for file in slide_files(path))):
                rows_of_size[size].append((line, path))
    for rows in rows_of_size.values():
        first: dict[str, tuple[Any, str]] = {}
        for line, path in rows if len({line for line, _ in rows}) > 1 else []:
            other, other_path = first.setdefault(fingerprint(path), (line, path))
            if other == line:
                continue
            one, two = (table.loc[number, ["patient", "split"]].tolist() for number in (other, line))
            same = f"lines {other} and {line} have the same pixels, {Path(other_path).name} and {Path(path).name}"
            if pd.isna(one[0]) or one[0] != two[0] or (one[1] != two[1] and not pd.isna([one[1], two[1]]).all()):
                raise UserError(same, remedy="leave one out, or give both the same patient and split")
            note(f"{same}: they count twice")
