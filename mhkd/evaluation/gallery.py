"""The worst failures of each model and source of slides: contact sheets to look at, and all failures in a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from mhkd.evaluation.failures import FALSE, KINDS, LOOSE, MISSED, Failure, list_failures
from mhkd.evaluation.metrics import SlideMetrics
from mhkd.evaluation.slide_level import open_row
from mhkd.inference.report.crops import square_around
from preprocess.base.console import progress
from preprocess.base.errors import UserError
from preprocess.base.files import safe_name, write_csv
from preprocess.base.geometry import Region, Size
from preprocess.base.images import write_image
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide
from preprocess.slides.table import OUTPUT_NAME

FOLDER, TABLE = "gallery", "gallery.csv"
COUNT = 12
"""Failures on a sheet."""
BY = ("source", "stain")
"""Of the slides' table: what parts the slides into groups, as far as it has them."""

_BOX_L0 = ("x0_l0", "y0_l0", "x1_l0", "y1_l0")
_COLUMNS = ("kind", "rank", "slide", "patient", "class", "score", "iou", "cause", *_BOX_L0, "diameter_um", "sheet")
_TITLES = {FALSE: "false detections, surest first", MISSED: "missed, weakest first", LOOSE: "found, loosest first"}

# Okabe and Ito's colours, which colour-blind readers can tell apart, on black edges: stains have any colour.
TRUE_RGB, FOUND_RGB, IGNORED_RGB = (86, 180, 233), (240, 165, 0), (170, 170, 170)
LEGEND = (
    ("true", TRUE_RGB, 2),
    ("found", FOUND_RGB, 2),
    ("found, below the threshold", FOUND_RGB, 1),
    ("to be ignored", IGNORED_RGB, 2),
)
SIDE_PX, COLUMNS = 250, 3
_AROUND, _LEAST_UM = 2.4, 250.0  # of the box's longer side, and at least
_BAR_UM = 100.0
_PAPER, _INK, _EDGE = 255, (0, 0, 0), (0, 0, 0)
_GAP_PX, _LINE_PX = 8, 17
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


def gallery_columns(slides: pd.DataFrame, by: Sequence[str] | None) -> list[str]:
    """The columns of ``slides`` that part them into groups: ``by``, or where that is None those of BY that are there.

    Raises:
        UserError: ``slides`` has no such column.
    """
    if by is None:
        return [name for name in BY if name in slides]
    if unknown := [name for name in by if name not in slides]:
        raise UserError(
            f"the slides table has no column {unknown[0]!r}", remedy=f"its columns are {', '.join(slides.columns)}"
        )
    return list(by)


def write_gallery(
    output_dir: str | Path,
    metrics: Mapping[str, SlideMetrics],
    slides: pd.DataFrame,
    input_mpp: Mapping[str, float],
    *,
    by: Sequence[str],
    count: int = COUNT,
) -> list[Path]:
    """Write ``gallery/<model>.<group>.<kind>.png`` below ``output_dir``, and ``gallery/gallery.csv`` with all failures.

    Sheets of an earlier gallery there are removed. The same failures give the same bytes.

    Args:
        metrics: of each model by its name.
        slides: the table (``read_slides_csv``) that has the slides of ``metrics``.
        input_mpp: micrometres per pixel of each model's input, by its name.
        by: columns of ``slides``; a group are the slides with the same values there, without any all slides.
        count: how many failures are on a sheet, the worst; with 0 there are no sheets.

    Raises:
        UserError: a slide cannot be read.
    """
    folder = Path(output_dir) / FOLDER
    for kind in KINDS:
        for path in folder.glob(f"*.{kind}.png"):
            path.unlink()
    row_of = {row[OUTPUT_NAME]: row for row in slides.to_dict("records")}
    sheets = [sheet for model, one in metrics.items() for sheet in _sheets(model, one, row_of, by)]
    drawn = sheets if count > 0 else []
    with progress(drawn, description="failure gallery", unit="sheet") as bar:
        for sheet in bar:
            shown = sheet.failures[:count]
            title = f"{sheet.title}  ({len(shown)} of {len(sheet.failures)})"
            thresh, mpp = metrics[sheet.model].result["score_thresh"], input_mpp[sheet.model]
            with ExitStack() as stack:
                names = dict.fromkeys(failure.slide.name for failure in shown)
                opened = {name: stack.enter_context(open_row(row_of[name])) for name in names}
                picture = _draw_sheet(shown, opened, title=title, score_thresh=thresh, input_mpp=mpp)
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
    model: str, metrics: SlideMetrics, row_of: Mapping[str, Mapping[str, Any]], by: Sequence[str]
) -> Iterator[_Sheet]:
    """By group and kind; a group without failures of a kind has no sheet of it."""
    grouped: dict[tuple[tuple[str, ...], str], list[Failure]] = {}
    for failure in list_failures(metrics):
        row = row_of[failure.slide.name]
        group = tuple("none" if pd.isna(row[name]) else str(row[name]) for name in by)
        grouped.setdefault((group, failure.kind), []).append(failure)
    for group, kind in sorted(grouped, key=lambda key: (key[0], KINDS.index(key[1]))):
        yield _Sheet(model, group, kind, grouped[group, kind])


def _facts(failure: Failure) -> dict[str, Any]:
    box, slide = failure.box_l0, failure.slide
    return {
        "slide": slide.name,
        "patient": slide.patient,
        "class": slide.detections.class_names[failure.label],
        "score": "" if failure.score is None else round(failure.score, 4),
        "iou": round(failure.iou, 3),
        "cause": failure.cause,
        **{name: round(value, 2) for name, value in zip(_BOX_L0, box.tolist(), strict=True)},
        "diameter_um": round(failure.diameter_um, 1),
    }


def _file_part(text: str) -> str:
    return safe_name(text.replace("/", "-") + ".png")  # what follows the last dot would be taken for a suffix


def _draw_sheet(
    failures: Sequence[Failure], slides: Mapping[str, Slide], *, title: str, score_thresh: float, input_mpp: float
) -> Image:
    """``failures`` (at least one) of ``slides`` by name in their order, row by row, as uint8 RGB.

    Each has two squares: the slide around it, with true boxes, those detected with ``score_thresh`` or more and a bar
    of 100 um; and the same at the model's ``input_mpp`` um/px, enlarged without smoothing.
    """
    cells = [
        _cell(rank, failure, slides[failure.slide.name], score_thresh, input_mpp)
        for rank, failure in enumerate(failures, start=1)
    ]
    columns = min(COLUMNS, len(cells))
    cells += [np.full_like(cells[0], _PAPER)] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    width = rows[0].shape[1]
    right = f"right of each: as the model sees it, {input_mpp:g} um/px"
    return np.vstack([_text([title], width), *rows, _legend(width, right)])


def _cell(rank: int, failure: Failure, slide: Slide, score_thresh: float, input_mpp: float) -> Image:
    square = square_around(failure.box_l0, slide.mpp_xy, around=_AROUND, least_um=_LEAST_UM)
    seen_px = max(1, round(square.width * slide.mpp_xy[0] / input_mpp))
    seen = cv2.resize(slide.read(square, Size(seen_px, seen_px)), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_NEAREST)
    shown = _drawn(slide.read(square, Size(SIDE_PX, SIDE_PX)), square, failure, score_thresh)
    _draw_bar(shown, _BAR_UM / (square.width * slide.mpp_xy[0]) * SIDE_PX)
    gap = np.full((SIDE_PX, _GAP_PX, 3), _PAPER, np.uint8)
    pictures = np.hstack([shown, gap[:, : _GAP_PX // 2], seen.astype(np.uint8, copy=False), gap])
    return np.vstack([_text(_caption(rank, failure), pictures.shape[1]), pictures])


def _caption(rank: int, failure: Failure) -> list[str]:
    x0, y0, x1, y1 = failure.box_l0.tolist()
    names = failure.slide.detections.class_names
    facts = [
        f"{rank}",
        *([names[failure.label]] if len(names) > 1 else []),
        "no score" if failure.score is None else f"score {failure.score:.2f}",
        f"IoU {failure.iou:.2f}",
        *([failure.cause] if failure.cause else []),
        f"{failure.diameter_um:.0f} um",
        f"at {(x0 + x1) / 2:.0f}, {(y0 + y1) / 2:.0f} px",
    ]
    return ["  ".join(facts), failure.slide.name]


def _drawn(image: Image, square: Region, failure: Failure, score_thresh: float) -> Image:
    """``image``, which shows ``square``, with all boxes; the one that it is about is thick."""
    truth, found = failure.slide.ground_truth, failure.slide.detections
    size = Size(image.shape[1], image.shape[0])
    groups = (
        (truth.boxes_l0[truth.ignore], IGNORED_RGB),
        (truth.boxes_l0[~truth.ignore], TRUE_RGB),
        (found.boxes_l0[found.scores >= score_thresh], FOUND_RGB),
    )
    boxes = [(box, colour) for group, colour in groups for box in group]
    image = image.copy()
    if failure.weak_l0 is not None:
        _outline(image, square.to_px(failure.weak_l0, size)[0], FOUND_RGB, 1)
    for box, colour in sorted(boxes, key=lambda pair: bool((pair[0] == failure.box_l0).all())):
        thick = 4 if (box == failure.box_l0).all() else 2
        _outline(image, square.to_px(box, size)[0], colour, thick)
    return image


def _outline(image: Image, box_px: np.ndarray, colour: tuple[int, int, int], thick: int) -> None:
    """Draw a box; what is thicker than a pixel has a black edge."""
    x0, y0, x1, y1 = np.rint(box_px).astype(int).tolist()
    if thick > 1:
        cv2.rectangle(image, (x0, y0), (x1, y1), _EDGE, thick + 2)
    cv2.rectangle(image, (x0, y0), (x1, y1), colour, thick)


def _draw_bar(image: Image, length_px: float) -> None:
    y, x0 = image.shape[0] - 8, 8
    x1 = x0 + round(length_px)
    for colour, thick in ((_EDGE, 5), ((255, 255, 255), 2)):
        cv2.line(image, (x0, y), (x1, y), colour, thick)
        cv2.putText(image, f"{_BAR_UM:g} um", (x0, y - 7), _FONT, _SCALE, colour, thick - 1, cv2.LINE_AA)


def _text(lines: Sequence[str], width: int) -> Image:
    """Lines of text on paper, each cut where it would leave it."""
    paper = np.full((len(lines) * _LINE_PX + 5, width, 3), _PAPER, np.uint8)
    for number, line in enumerate(lines, start=1):
        cv2.putText(paper, line, (2, number * _LINE_PX - 3), _FONT, _SCALE, _INK, 1, cv2.LINE_AA)
    return paper


def _legend(width: int, rest: str) -> Image:
    paper, x = _text([""], width), 2
    for name, colour, thick in LEGEND:
        _outline(paper, np.array([x + 2, 4, x + 14, 16]), colour, thick)
        cv2.putText(paper, name, (x + 22, 15), _FONT, _SCALE, _INK, 1, cv2.LINE_AA)
        x += 40 + cv2.getTextSize(name, _FONT, _SCALE, 1)[0][0]
    return np.vstack([paper, _text([rest], width)])
