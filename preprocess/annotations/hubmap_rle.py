"""HuBMAP's and Kaggle's table of 2021: a line per slide, its mask as run lengths down the columns, from pixel 1."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from preprocess.annotations.annotation import Drawing, SlideFrame, WrongSizeError, is_named
from preprocess.annotations.runs import area_of_column_runs
from preprocess.base.errors import UserError
from preprocess.base.text_table import column_names, parse_text_table

NAME = "run-length table"
_COLUMNS = ("encoding", "rle")
_MAX_OVERLAPS = 0.5


def recognises(text: str) -> bool:
    """Whether the first line has the columns ``id`` and ``encoding`` or, as in 2022, ``rle``."""
    names = set(map(str.lower, column_names(text, _is_known)))
    return "id" in names and not names.isdisjoint(_COLUMNS)


def parse(text: str, slide: SlideFrame | None) -> Iterator[Drawing]:
    """The mask of the line whose id is the slide's name, one object per group of pixels that share edges."""
    if slide is None:
        raise UserError("run lengths need the size of their slide", remedy="read them together with the slide")
    table = parse_text_table(text, _is_known).rename(columns=str.lower)
    rows = table[table["id"].isin([name for name in table["id"].unique() if is_named(slide, name)])]
    if len(rows) != 1:
        raise UserError(
            f"{len(rows)} of its {len(table)} lines have the id {slide.name!r}",
            remedy="the id must be the slide's file name without suffix",
        )
    encoding = next(rows[column].iloc[0] for column in _COLUMNS if column in table)
    numbers = np.array([int(number) for number in encoding.split()], dtype=np.int64)
    if len(numbers) % 2:
        raise ValueError("a run without a length")
    runs = numbers.reshape(-1, 2)[np.argsort(numbers[0::2], kind="stable")]
    if len(runs) > 1 and np.mean(runs[1:, 0] < runs[:-1].sum(axis=1)) > _MAX_OVERLAPS:
        raise ValueError("its runs overlap: they must be starts and lengths, no ends")
    if len(runs) and runs.sum(axis=1).max() - 1 > slide.size.width * slide.size.height:
        raise WrongSizeError(
            f"a run leaves the {slide.size.width} x {slide.size.height} px of the slide",
            remedy="give its own run lengths",
        )
    if len(runs):
        yield Drawing(area_of_column_runs(runs[:, 0] - 1, runs[:, 1], slide.size))


def _is_known(name: str) -> bool:
    return name.lower() in ("id", *_COLUMNS)
