"""Tile pairs with their boxes on one picture, to look at before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pandas as pd

from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.base.images import opencv_name
from preprocess.slides.readers.reader import Image
from preprocess.tiles.coco import SIDES
from preprocess.tiles.manifest import Manifest

Colour = tuple[int, int, int]

# One colour for each class, again from the start where they are more; easy to tell apart and from any stain.
CLASS_RGB: tuple[Colour, ...] = ((0, 160, 60), (0, 90, 255), (230, 0, 200), (0, 180, 200), (120, 60, 20), (90, 90, 90))
IGNORED_RGB: Colour = (240, 140, 0)
DETECTED_RGB: Colour = (150, 60, 200)
_PAPER, _INK = 255, (0, 0, 0)
_GAP_PX, _CAPTION_PX, _LEGEND_PX = 6, 18, 24
_BOARD = 8


def contact_sheet(
    manifest: Manifest,
    *,
    count: int,
    seed: int = 0,
    slide: str | None = None,
    checkerboard: bool = False,
    columns: int | None = None,
    side_px: int = 320,
) -> Image:
    """``count`` random pairs that have a box, as uint8 RGB: the teacher's tile left, the student's right.

    Where none has a box, they are of unlabelled slides. Both are shown ``side_px`` wide, with a legend below. ``slide``
    names the only slide to draw from. ``checkerboard`` adds a third picture of fields from the teacher and the student
    in turn, over which outlines run on where the pair is aligned. Raises UserError if no tile of the slide has a box,
    or if a tile is missing.
    """
    tiles = manifest.tiles
    if slide is not None:
        tiles = tiles[tiles["slide"] == slide]
        if tiles.empty:
            names = ", ".join(manifest.tiles["slide"].unique()[:5])
            raise UserError(
                f"no tile of the slide {slide!r}", path=manifest.root, remedy=f"it has slides such as {names}"
            )
    boxed = tiles[tiles["tile_id"].isin(manifest.boxes["tile_id"])]
    if boxed.empty:
        boxed = tiles[~tiles["labelled"]]
    if boxed.empty:
        raise UserError("no tile has a box", path=manifest.root)
    chosen = boxed.sample(min(count, len(boxed)), random_state=seed).sort_index()
    cells = [_cell(manifest, tile, side_px, checkerboard) for tile in chosen.to_dict("records")]
    columns = columns or (2 if checkerboard else 3)
    blank = np.full_like(cells[0], _PAPER)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return np.vstack([*rows, _legend(manifest, rows[0].shape[1])])


def class_colours(manifest: Manifest) -> dict[str, Colour]:
    """The colour of each class, in the order of the manifest's labels."""
    return {label: CLASS_RGB[index % len(CLASS_RGB)] for index, label in enumerate(manifest.labels)}


def _cell(manifest: Manifest, tile: Mapping[str, Any], side_px: int, checkerboard: bool) -> Image:
    boxes = manifest.boxes[manifest.boxes["tile_id"] == tile["tile_id"]]
    plain = [_shown(manifest, tile, side, side_px) for side in SIDES]
    images = [_drawn(manifest, tile, boxes, image) for image in plain]
    if checkerboard:
        images.append(_checkerboard(*plain))
    cell = np.full((side_px + _CAPTION_PX + _GAP_PX, len(images) * (side_px + _GAP_PX), 3), _PAPER, np.uint8)
    for number, image in enumerate(images):
        x = number * (side_px + _GAP_PX)
        cell[_CAPTION_PX : _CAPTION_PX + side_px, x : x + side_px] = image
    _write(cell, tile["tile_id"] + ("" if tile["labelled"] else ", unlabelled"), (2, _CAPTION_PX - 5))
    return cell


def _shown(manifest: Manifest, tile: Mapping[str, Any], side: str, side_px: int) -> Image:
    """One tile at ``side_px``."""
    path = manifest.root / tile[f"{side}_file"]
    bgr = cv2.imread(opencv_name(path))
    if bgr is None:
        raise UserError("missing or damaged tile", path=path, remedy="make the tiles again")
    interpolation = cv2.INTER_AREA if bgr.shape[1] > side_px else cv2.INTER_CUBIC
    image = cv2.resize(bgr, (side_px, side_px), interpolation=interpolation)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _drawn(manifest: Manifest, tile: Mapping[str, Any], boxes: pd.DataFrame, image: Image) -> Image:
    """``image`` with the tile's boxes."""
    drawn, colours = image.copy(), class_colours(manifest)
    region = Region(tile["x_l0"], tile["y_l0"], tile["width_l0"], tile["height_l0"])
    size = Size(image.shape[1], image.shape[0])
    boxes_px = region.to_px(boxes[["x0_l0", "y0_l0", "x1_l0", "y1_l0"]], size).round().astype(int)
    is_detected = manifest.has_pseudo_labels and not tile["labelled"]
    for (x0, y0, x1, y1), box in zip(boxes_px.tolist(), boxes.to_dict("records"), strict=True):
        colour = DETECTED_RGB if is_detected else colours[box["label"]]
        cv2.rectangle(drawn, (x0, y0), (x1, y1), IGNORED_RGB if box["ignore"] else colour, 2)
        if is_detected:
            _write(drawn, f"{box['score']:.2f}", (x0 + 3, y0 + 13))
    return drawn


def _checkerboard(teacher: Image, student: Image) -> Image:
    row, column = (np.arange(side) * _BOARD // side for side in teacher.shape[:2])
    return np.where(((row[:, None] + column) % 2 == 0)[..., None], teacher, student)


def _legend(manifest: Manifest, width: int) -> Image:
    """A line of the classes and their colours."""
    line = np.full((_LEGEND_PX, width, 3), _PAPER, np.uint8)
    x = 2
    detected = {"found by a detector, with its score": DETECTED_RGB} if manifest.has_pseudo_labels else {}
    for name, colour in {**class_colours(manifest), **detected, "to be ignored": IGNORED_RGB}.items():
        cv2.rectangle(line, (x, 6), (x + 12, 18), colour, 2)
        x += 18 + _write(line, name, (x + 18, 17)) + 16
    return line


def _write(image: Image, text: str, place: tuple[int, int]) -> int:
    """Write a small line of text, and return its width in pixels."""
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0])
