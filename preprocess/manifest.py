"""The two tables of the preprocessor: ``slides.csv`` in, the manifest of tile pairs out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from preprocess.errors import UserError
from preprocess.files import atomic_path, safe_name, write_json
from preprocess.geometry import MAX_MPP, MIN_MPP
from preprocess.splits import SPLITS, check_patients

SCHEMA_VERSION = 2

_SCAN_COLUMNS = ("student_slide", "student_mpp", "student_transform")

SLIDES_COLUMNS = ("slide", "annotation", "mpp", "patient", "split", "origin", *_SCAN_COLUMNS)
"""``slides.csv``: only ``slide`` must be there; other columns are kept."""

TILES_COLUMNS = {
    "tile_id": "str",
    "slide": "str",
    "slide_path": "str",
    "patient": "str",
    "split": "str",
    "x_l0": "float64",
    "y_l0": "float64",
    "width_l0": "float64",
    "height_l0": "float64",
    "slide_mpp": "float64",
    "tissue": "float64",
    "teacher_file": "str",
    "teacher_width": "int64",
    "teacher_height": "int64",
    "student_file": "str",
    "student_width": "int64",
    "student_height": "int64",
    "num_boxes": "int64",
}
BOXES_COLUMNS = {
    "tile_id": "str",
    "label": "str",
    "x0_l0": "float64",
    "y0_l0": "float64",
    "x1_l0": "float64",
    "y1_l0": "float64",
    "visible_fraction": "float64",
    "ignore": "bool",
}
_AGAIN = "make the tiles again"


@dataclass
class Manifest:
    """All tile pairs of a data set, in the order of the slides table.

    ``tiles`` has one row per pair and ``boxes`` one per visible object, with the columns of
    ``TILES_COLUMNS`` and ``BOXES_COLUMNS``. Coordinates are level-0 pixels of the slide; files are
    relative to ``root``. ``num_boxes`` counts the boxes that are not to be ignored. ``labels`` are the
    class names in the order of their ids.
    """

    root: Path
    tiles: pd.DataFrame
    boxes: pd.DataFrame
    labels: list[str]
    teacher_mpp: float
    student_mpp: float
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """The manifest in ``folder``. UserError if it is missing, damaged, or of another schema version."""
        root = Path(folder)
        header = _read_header(root / "manifest.json")
        tiles = _read_table(root / "manifest.csv", TILES_COLUMNS)
        boxes = _read_table(root / "boxes.csv", BOXES_COLUMNS)
        if not set(boxes["tile_id"]) <= set(tiles["tile_id"]) or not set(boxes["label"]) <= set(header["labels"]):
            raise UserError("the boxes do not belong to the tiles", path=root / "boxes.csv", remedy=_AGAIN)
        return cls(root=root, tiles=tiles, boxes=boxes, **header)

    def write(self, folder: str | Path) -> None:
        """Write manifest.csv, boxes.csv and, last, manifest.json: a folder without the last is not finished."""
        folder = Path(folder)
        write_csv(folder / "manifest.csv", self.tiles[list(TILES_COLUMNS)])
        write_csv(folder / "boxes.csv", self.boxes[list(BOXES_COLUMNS)])
        header = {
            "schema_version": SCHEMA_VERSION,
            "teacher_mpp": self.teacher_mpp,
            "student_mpp": self.student_mpp,
            "labels": self.labels,
            "provenance": self.provenance,
        }
        write_json(folder / "manifest.json", header)

    def split(self, name: str) -> Manifest:
        """The part of the manifest in the split ``name``; UserError if it has no tile."""
        tiles = self.tiles[self.tiles["split"] == name].reset_index(drop=True)
        if tiles.empty:
            raise UserError(f"the split {name!r} has no tiles", path=self.root, remedy=_AGAIN)
        boxes = self.boxes[self.boxes["tile_id"].isin(tiles["tile_id"])].reset_index(drop=True)
        return Manifest(self.root, tiles, boxes, self.labels, self.teacher_mpp, self.student_mpp, self.provenance)

    def slide_file(self, slide_path: str) -> Path:
        """An entry of the column ``slide_path`` as a path that can be opened."""
        return self.root / slide_path


def read_slides_csv(path: str | Path, *, for_training: bool = True) -> pd.DataFrame:
    """The cohort table ``path``: one row per slide, with the columns of ``SLIDES_COLUMNS`` and all others.

    ``slide``, ``annotation`` and ``student_slide`` are absolute paths, resolved against the folder of the
    table; ``mpp`` and ``student_mpp`` are floats; a value that is not given is NaN. Raises UserError if
    there is no column ``slide``, a row names no slide, a slide or a slide's name comes twice, an mpp is no
    plausible number, a split is not train, val or test, a patient is in two splits, or none of the slides
    exists. A single missing file is left to whoever opens it, so that it does not stop the other slides.
    Not ``for_training``, a split may be anything.
    """
    path = Path(path)
    table = _read_slides_table(path)
    try:
        _check_slides_table(table, path.parent)
        if for_training:
            _check_split_names(table)
            check_patients(table)
    except UserError as error:
        raise UserError(error.reason, path=path, remedy=error.remedy) from None
    return table.reset_index(drop=True)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write ``table`` as CSV, atomically; the same table gives the same bytes on every system."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


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


def _read_header(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError("no manifest", path=path, remedy="make the tiles first: tools/make_tiles.py")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        version = header["schema_version"]
        if version != SCHEMA_VERSION:
            raise UserError(
                f"schema version {version} instead of {SCHEMA_VERSION}", path=path, remedy=f"{_AGAIN} with this version"
            )
        return {
            "teacher_mpp": float(header["teacher_mpp"]),
            "student_mpp": float(header["student_mpp"]),
            "labels": [str(label) for label in header["labels"]],
            "provenance": dict(header["provenance"]),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError("not a manifest", path=path, remedy=_AGAIN) from error


def _read_table(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    if not path.is_file():
        raise UserError("missing from the manifest", path=path, remedy=_AGAIN)
    try:
        # A patient or label "NA" is a name; nothing in these tables is ever missing.
        table = pd.read_csv(path, dtype=columns, keep_default_na=False, encoding="utf-8")
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"damaged: {error}", path=path, remedy=_AGAIN) from error
    if list(table.columns) != list(columns):
        missing = [name for name in columns if name not in table.columns]
        raise UserError(f"wrong columns (missing: {', '.join(missing) or 'none'})", path=path, remedy=_AGAIN)
    return table
