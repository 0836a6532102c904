"""The worst failures of each model and source of slides: contact sheets to look at, and all failures in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from mhkd.evaluation.failure_sheet import draw_sheet
from mhkd.evaluation.failures import FALSE, KINDS, LOOSE, MISSED, Failure, find_failures
from mhkd.evaluation.metrics import SlideFigures
from preprocess.base.console import progress
from preprocess.base.errors import UserError
from preprocess.base.files import safe_name, write_csv
from preprocess.base.images import write_image
from preprocess.slides.slide import Slide

FOLDER, TABLE = "gallery", "gallery.csv"
COUNT = 12
"""Failures on a sheet."""
BY = ("source", "stain")
"""Of the slides' table: what parts the slides into groups, as far as it has them."""

_TITLES = {FALSE: "false detections, surest first", MISSED: "missed, weakest first", LOOSE: "found, loosest first"}


def gallery_columns(slides: pd.DataFrame, by: Sequence[str] | None) -> list[str]:
    """The columns of ``slides`` that part them: ``by``, or those of BY that are there. UserError for others."""
    if by is None:
        return [name for name in BY if name in slides]
    if unknown := [name for name in by if name not in slides]:
        raise UserError(
            f"the slides table has no column {unknown[0]!r}", remedy=f"its columns are {', '.join(slides.columns)}"
        )
    return list(by)


def write_gallery(
    output_dir: str | Path,
    figures: Mapping[str, SlideFigures],
    slides: pd.DataFrame,
    input_mpp: Mapping[str, float],
    *,
    by: Sequence[str],
    count: int = COUNT,
) -> list[Path]:
    """Write ``gallery/<model>.<group>.<kind>.png`` below ``output_dir``, and ``gallery/gallery.csv`` with all failures.

    figures, input_mpp: by model. slides: the table (``read_slides_csv``) that has the slides of ``figures``. A group
    are the slides with the same values in the columns ``by``; without any, all. On each sheet are the ``count`` worst,
    of 0 there are none. Sheets of an earlier gallery there are removed. The same failures give the same bytes. Raises
    UserError where a slide cannot be read.
    """
    folder = Path(output_dir) / FOLDER
    for kind in KINDS:
        for path in folder.glob(f"*.{kind}.png"):
            path.unlink()
    row_of = {safe_name(row["slide"]): row for row in slides.to_dict("records")}
    sheets = [sheet for model, one in figures.items() for sheet in _sheets(model, one, row_of, by)]
    drawn = sheets if count > 0 else []
    with progress(drawn, description="failure gallery", unit="sheet") as bar:
        for sheet in bar:
            shown = sheet.failures[:count]
            title = f"{sheet.title}  ({len(shown)} of {len(sheet.failures)})"
            thresh, mpp = figures[sheet.model].result["score_thresh"], input_mpp[sheet.model]
            with _opened(row_of) as open_slide:
                picture = draw_sheet(shown, open_slide, title=title, score_thresh=thresh, input_mpp=mpp)
            write_image(folder / sheet.file, picture)
    rows = [row for sheet in sheets for row in sheet.rows(by, count)]
    write_csv(folder / TABLE, pd.DataFrame(rows, columns=["model", *by, *_COLUMNS]))
    return [folder / TABLE, *(folder / sheet.file for sheet in drawn)]


@dataclass(frozen=True)
class _Sheet:
    """All failures of one kind of a model in a group of slides, the worst first."""

    model: str
    group: tuple[str, ...]
    kind: str
    failures: list[Failure]

    @property
    def file(self) -> str:
        return ".".join((_file_part(self.model), _file_part("-".join(self.group) or "all"), self.kind, "png"))

    @property
    def title(self) -> str:
        return f"{self.model}: {_TITLES[self.kind]}; {', '.join(self.group) or 'all slides'}"

    def rows(self, by: Sequence[str], count: int) -> list[dict[str, Any]]:
        """Lines of the table."""
        about = {"model": self.model, **dict(zip(by, self.group, strict=True)), "kind": self.kind}
        return [
            {**about, "rank": rank, **_facts(failure), "sheet": self.file if rank <= count else ""}
            for rank, failure in enumerate(self.failures, start=1)
        ]


def _sheets(
    model: str, figures: SlideFigures, row_of: Mapping[str, Mapping[str, Any]], by: Sequence[str]
) -> Iterator[_Sheet]:
    """By group and kind; a group without failures of a kind has no sheet of it."""
    grouped: dict[tuple[tuple[str, ...], str], list[Failure]] = {}
    for failure in find_failures(figures):
        row = row_of[failure.case.name]
        group = tuple("none" if pd.isna(row[name]) else str(row[name]) for name in by)
        grouped.setdefault((group, failure.kind), []).append(failure)
    for group, kind in sorted(grouped, key=lambda key: (key[0], KINDS.index(key[1]))):
        yield _Sheet(model, group, kind, grouped[group, kind])


def _facts(failure: Failure) -> dict[str, Any]:
    box, case = failure.box_l0, failure.case
    return {
        "slide": case.name,
        "patient": case.patient,
        "class": case.found.class_names[failure.label],
        "score": "" if failure.score is None else round(failure.score, 4),
        "iou": round(failure.iou, 3),
        "cause": failure.cause,
        **{name: round(value, 2) for name, value in zip(_BOX_L0, box.tolist(), strict=True)},
        "diameter_um": round(failure.diameter_um, 1),
    }


@contextmanager
def _opened(row_of: Mapping[str, Mapping[str, Any]]) -> Iterator[Callable[[str], Slide]]:
    """Opens a slide by its name, each once, and closes them all in the end."""
    with ExitStack() as stack:

        @cache
        def open_slide(name: str) -> Slide:
            mpp = row_of[name]["mpp"]
            return stack.enter_context(Slide.open(row_of[name]["slide"], mpp=None if pd.isna(mpp) else float(mpp)))

        yield open_slide


def _file_part(text: str) -> str:
    return safe_name(text.replace("/", "-") + ".png")  # what follows the last dot would be taken for a suffix


_BOX_L0 = ("x0_l0", "y0_l0", "x1_l0", "y1_l0")
_COLUMNS = ("kind", "rank", "slide", "patient", "class", "score", "iou", "cause", *_BOX_L0, "diameter_um", "sheet")
