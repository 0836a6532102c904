"""The manifest of tile pairs: what the preprocessor writes and training reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from preprocess.base.errors import UserError
from preprocess.base.files import write_csv, write_json

SCHEMA_VERSION = 2

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
