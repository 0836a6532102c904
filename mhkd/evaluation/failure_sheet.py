"""Failures on one picture: each as the slide shows it with true and found boxes, and as the model sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from mhkd.evaluation.failures import Failure
from mhkd.inference.report.crops import square_around
from preprocess.base.geometry import Region, Size
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide

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


def draw_sheet(
    failures: Sequence[Failure],
    open_slide: Callable[[str], Slide],
    *,
    title: str,
    score_thresh: float,
    input_mpp: float,
    columns: int = COLUMNS,
) -> Image:
    """``failures`` (at least one) in their order, row by row, as uint8 RGB.

    Each has two squares: the slide around it, with true boxes, those found with ``score_thresh`` or more and a bar of
    100 um; and the same at the model's ``input_mpp``, enlarged without smoothing. open_slide: from a slide's name.
    Raises UserError where a slide cannot be read.
    """
    cells = [
        _cell(rank, failure, open_slide(failure.case.name), score_thresh, input_mpp)
        for rank, failure in enumerate(failures, start=1)
    ]
    columns = min(columns, len(cells))
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
    names = failure.case.found.class_names
    facts = [
        f"{rank}",
        *([names[failure.label]] if len(names) > 1 else []),
        "no score" if failure.score is None else f"score {failure.score:.2f}",
        f"IoU {failure.iou:.2f}",
        *([failure.cause] if failure.cause else []),
        f"{failure.diameter_um:.0f} um",
        f"at {(x0 + x1) / 2:.0f}, {(y0 + y1) / 2:.0f} px",
    ]
    return ["  ".join(facts), failure.case.name]


def _drawn(image: Image, square: Region, failure: Failure, score_thresh: float) -> Image:
    """``image``, which shows ``square``, with all boxes; the one that it is about is thick."""
    truth, found = failure.case.truth, failure.case.found
    size = Size(image.shape[1], image.shape[0])
    boxes = [
        *zip(truth.boxes_l0[truth.ignore], [IGNORED_RGB] * len(truth), strict=False),
        *zip(truth.boxes_l0[~truth.ignore], [TRUE_RGB] * len(truth), strict=False),
        *zip(found.boxes_l0[found.scores >= score_thresh], [FOUND_RGB] * len(found), strict=False),
    ]
    image = image.copy()
    if failure.weak_l0 is not None:
        _outline(image, square.to_px(failure.weak_l0, size)[0], FOUND_RGB, 1, edge=0)
    for box, colour in sorted(boxes, key=lambda pair: bool((pair[0] == failure.box_l0).all())):
        thick = 4 if (box == failure.box_l0).all() else 2
        _outline(image, square.to_px(box, size)[0], colour, thick, edge=2)
    return image


def _outline(image: Image, box_px: np.ndarray, colour: tuple[int, int, int], thick: int, *, edge: int) -> None:
    x0, y0, x1, y1 = np.rint(box_px).astype(int).tolist()
    if edge:
        cv2.rectangle(image, (x0, y0), (x1, y1), _EDGE, thick + edge)
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
        _outline(paper, np.array([x + 2, 4, x + 14, 16]), colour, thick, edge=2 if thick > 1 else 0)
        cv2.putText(paper, name, (x + 22, 15), _FONT, _SCALE, _INK, 1, cv2.LINE_AA)
        x += 40 + cv2.getTextSize(name, _FONT, _SCALE, 1)[0][0]
    return np.vstack([paper, _text([rest], width)])
