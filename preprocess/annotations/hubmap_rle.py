"""HuBMAP's and Kaggle's table of 2021: a line per slide, its mask as run lengths down the columns, from pixel 1."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from preprocess.annotations.annotation import Drawing, SlideFrame, is_named
from preprocess.annotations.runs import area_of_column_runs
from preprocess.base.errors import UserError

NAME = "run-length table"
_COLUMNS = ("encoding", "rle")


def recognises(text: str) -> bool:
    """Whether the first line has the columns ``id`` and ``encoding`` or, as in 2022, ``rle``."""
    header = _names(text.partition("\n")[0].split(","))
    return "id" in header and any(column in header for column in _COLUMNS)


def parse(text: str, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The mask of the line whose id is the slide's name, one object per group of pixels that share edges."""
    if slide is None:
        raise UserError("run lengths need the size of their slide", remedy="read them together with the slide")
    header, *lines = text.rstrip().split("\n")
    for number, line in enumerate(lines, start=2):
        if line.strip() and line.count(",") < header.count(","):
            raise ValueError(f"line {number} has fewer columns than the first")
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    table.columns = pd.Index(_names(table.columns))
    rows = table[table["id"].isin([name for name in table["id"].unique() if is_named(slide, name)])]
    if len(rows) != 1:
        raise UserError(
            f"{len(rows)} of its {len(table)} lines have the id {slide.name!r}",
            remedy="the id must be the slide's file name without suffix",
        )
    encoding = next(rows[column].iloc[0] for column in _COLUMNS if column in table)
    numbers = np.array([int(number) for number in encoding.split()], dtype=np.int64)
    if len(numbers):
        yield Drawing(area_of_column_runs(numbers[0::2] - 1, numbers[1::2], slide.size))


def _names(columns: Iterable[str]) -> list[str]:
    return [column.strip().strip('"').lower() for column in columns]
