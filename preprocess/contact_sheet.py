"""Tile pairs with their boxes on one picture, to look at before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pandas as pd

from preprocess.coco import SIDES
from preprocess.errors import UserError
from preprocess.geometry import Region, Size
from preprocess.manifest import Manifest
from preprocess.readers.reader import Image

_OBJECT_RGB, _IGNORED_RGB, _PAPER = (0, 160, 60), (240, 140, 0), 255
_GAP_PX, _CAPTION_PX = 6, 18


def contact_sheet(manifest: Manifest, *, count: int, seed: int = 0, columns: int = 3, side_px: int = 320) -> Image:
    """``count`` random pairs that have a box, as uint8 RGB: the teacher's tile left, the student's right.

    Both are shown ``side_px`` wide. Objects are green, boxes to be ignored orange. Raises UserError if no
    tile has a box, or if a tile is missing.
    """
    boxed = manifest.tiles[manifest.tiles["tile_id"].isin(manifest.boxes["tile_id"])]
    if boxed.empty:
        raise UserError("no tile has a box", path=manifest.root)
    chosen = boxed.sample(min(count, len(boxed)), random_state=seed).sort_index()
    cells = [_cell(manifest, tile, side_px) for tile in chosen.to_dict("records")]
    blank = np.full_like(cells[0], _PAPER)
    cells += [blank] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)])


def _cell(manifest: Manifest, tile: Mapping[str, Any], side_px: int) -> Image:
    boxes = manifest.boxes[manifest.boxes["tile_id"] == tile["tile_id"]]
    images = [_drawn(manifest, tile, boxes, side, side_px) for side in SIDES]
    height, width = side_px + _CAPTION_PX + _GAP_PX, 2 * (side_px + _GAP_PX)
    cell = np.full((height, width, 3), _PAPER, np.uint8)
    for number, image in enumerate(images):
        x = number * (side_px + _GAP_PX)
        cell[_CAPTION_PX : _CAPTION_PX + side_px, x : x + side_px] = image
    cv2.putText(cell, tile["tile_id"], (2, _CAPTION_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return cell


def _drawn(manifest: Manifest, tile: Mapping[str, Any], boxes: pd.DataFrame, side: str, side_px: int) -> Image:
    """One tile at ``side_px`` with its boxes."""
    path = manifest.root / tile[f"{side}_file"]
    bgr = cv2.imread(str(path))
    if bgr is None:
        raise UserError("missing or damaged tile", path=path, remedy="make the tiles again")
    shape = (side_px, side_px)
    image = cv2.resize(bgr, shape, interpolation=cv2.INTER_AREA if bgr.shape[1] > side_px else cv2.INTER_CUBIC)
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    region = Region(tile["x_l0"], tile["y_l0"], tile["width_l0"], tile["height_l0"])
    boxes_px = region.to_px(boxes[["x0_l0", "y0_l0", "x1_l0", "y1_l0"]], Size(*shape)).round().astype(int)
    for (x0, y0, x1, y1), ignore in zip(boxes_px.tolist(), boxes["ignore"], strict=True):
        cv2.rectangle(rgb, (x0, y0), (x1, y1), _IGNORED_RGB if ignore else _OBJECT_RGB, 2)
    return rgb.astype(np.uint8, copy=False)
