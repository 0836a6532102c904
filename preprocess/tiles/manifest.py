"""The manifest of tile pairs: what the preprocessor writes and training reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of, write_json, write_text

SCHEMA_VERSION = 4

TILES_COLUMNS = {
    "tile_id": "str",
    "slide": "str",
    "slide_path": "str",
    "patient": "str",
    "split": "str",
    "labelled": "bool",
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
_HEADER, _TILES, _BOXES = "manifest.json", "manifest.csv", "boxes.csv"
_TABLES = {_TILES: TILES_COLUMNS, _BOXES: BOXES_COLUMNS}
_AGAIN = "make the tiles again"


@dataclass
class Manifest:
    """All tile pairs of a data set, in the order of the slides table.

    ``tiles`` has one row per pair and ``boxes`` one per visible object, with the columns of
    ``TILES_COLUMNS`` and ``BOXES_COLUMNS``. Coordinates are level-0 pixels of the slide; files are
    relative to ``root``. ``num_boxes`` counts the boxes that are not to be ignored. A tile that is not ``labelled``
    is of a slide that nobody annotated: it has no boxes, which does not say that there is no object. In memory, with
    ``has_pseudo_labels``, it has those that a detector found, and all boxes have a ``score``
    (:func:`preprocess.tiles.pseudo_labels.add_pseudo_labels`). ``labels`` are the class names in the order of their
    ids. ``failed_slides`` are the names of the slides of the table that could not be cut and are missing here.
    """

    root: Path
    tiles: pd.DataFrame
    boxes: pd.DataFrame
    labels: list[str]
    teacher_mpp: float
    student_mpp: float
    provenance: dict[str, Any] = field(default_factory=dict)
    failed_slides: tuple[str, ...] = ()
    has_pseudo_labels: bool = False

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """The manifest in ``folder``.

        Raises UserError if it is missing, damaged, of another schema version, or not whole: where the tables are not
        those that the header states by their numbers of rows and their hashes.
        """
        root = Path(folder)
        fields, stated = _read_header(root / _HEADER)
        tables = {name: _read_table(root / name, columns) for name, columns in _TABLES.items()}
        for name, (rows, digest) in stated.items():
            if len(tables[name]) != rows:
                reason = f"{len(tables[name])} rows, but {_HEADER} states {rows}"
                raise UserError(reason, path=root / name, remedy=_AGAIN)
            if sha256_of(root / name) != digest:
                raise UserError(f"not the table that {_HEADER} was written for", path=root / name, remedy=_AGAIN)
        return cls(root=root, tiles=tables[_TILES], boxes=tables[_BOXES], **fields)

    def write(self, folder: str | Path, write_others: Callable[[Manifest], None] | None = None) -> None:
        """Write manifest.csv, boxes.csv and the header manifest.json, which goes first and comes last.

        A folder without the header is not finished. ``write_others`` writes what belongs to the manifest into the same
        folder, before the header comes. A header that states the same already is left alone, with its time of change
        and with the software that it was first written by, so that nothing is made anew for it.
        """
        folder = Path(folder)
        tables = {_TILES: self.tiles, _BOXES: self.boxes}
        texts = {name: _to_csv(table, _TABLES[name]) for name, table in tables.items()}
        header = {
            "schema_version": SCHEMA_VERSION,
            "teacher_mpp": self.teacher_mpp,
            "student_mpp": self.student_mpp,
            "labels": self.labels,
            "tables": {
                name: {"rows": len(tables[name]), "sha256": hashlib.sha256(text.encode()).hexdigest()}
                for name, text in texts.items()
            },
            "failed_slides": list(self.failed_slides),
            "provenance": self.provenance,
        }
        is_current = _is_current(folder, header)
        if not is_current:
            remove_manifest(folder)
            for name, text in texts.items():
                write_text(folder / name, text)
        if write_others is not None:
            write_others(self)
        if not is_current:
            write_json(folder / _HEADER, header)

    def split(self, name: str) -> Manifest:
        """The part of the manifest in the split ``name``; UserError if it has no tile."""
        chosen = self.tiles["split"] == name
        if not chosen.any():
            raise UserError(f"the split {name!r} has no tiles", path=self.root, remedy=_AGAIN)
        return self.select(chosen)

    def labelled(self) -> Manifest:
        """The part of the manifest of which somebody says what is there."""
        return self.select(self.tiles["labelled"])

    def select(self, chosen: pd.Series) -> Manifest:
        """The tiles that ``chosen``, a bool for each of them, picks, with their boxes."""
        tiles = self.tiles[chosen].reset_index(drop=True)
        boxes = self.boxes[self.boxes["tile_id"].isin(tiles["tile_id"])].reset_index(drop=True)
        return replace(self, tiles=tiles, boxes=boxes)


def remove_manifest(folder: Path) -> None:
    """Take the header away: from now on, and until a manifest is written, ``folder`` is not finished."""
    (folder / _HEADER).unlink(missing_ok=True)


def _is_current(folder: Path, header: Mapping[str, Any]) -> bool:
    """Whether ``folder`` holds ``header``, whatever software wrote it, and the tables that it states."""
    try:
        found = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
        # Through JSON, since a tuple comes back as a list.
        if _without_software(found) != _without_software(json.loads(json.dumps(header))):
            return False
        return all(sha256_of(folder / name) == table["sha256"] for name, table in header["tables"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _without_software(header: Mapping[str, Any]) -> dict[str, Any]:
    provenance = {key: value for key, value in header["provenance"].items() if key not in ("git_commit", "versions")}
    return {**header, "provenance": provenance}


def _to_csv(table: pd.DataFrame, columns: Mapping[str, str]) -> str:
    return str(table[list(columns)].to_csv(index=False, lineterminator="\n"))


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, str]]]:
    """The fields of a manifest beside its tables, and the number of rows and the hash of each table."""
    if not path.is_file():
        raise UserError("no manifest", path=path, remedy="make the tiles first: mhkd tiles")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        version = header["schema_version"]
        if version != SCHEMA_VERSION:
            raise UserError(
                f"schema version {version} instead of {SCHEMA_VERSION}", path=path, remedy=f"{_AGAIN} with this version"
            )
        fields = {
            "teacher_mpp": float(header["teacher_mpp"]),
            "student_mpp": float(header["student_mpp"]),
            "labels": [str(label) for label in header["labels"]],
            "provenance": dict(header["provenance"]),
            "failed_slides": tuple(str(name) for name in header["failed_slides"]),
        }
        stated = {name: (int(header["tables"][name]["rows"]), header["tables"][name]["sha256"]) for name in _TABLES}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError("not a manifest", path=path, remedy=_AGAIN) from error
    return fields, stated


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
