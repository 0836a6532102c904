"""A slide's tissue mask and tiles on one small picture, so that a person can see what is cut and what is not."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.base.geometry import Region, Size
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide
from preprocess.tiles.pairs import TileKind, TilePlan, shown_kinds

_MAX_SIDE_PX, _MIN_WIDTH_PX, _CAPTION_PX = 1024, 560, 24
_TISSUE_RGB, _BOX_RGB = (0, 150, 0), (255, 0, 0)
_KIND_RGB: dict[TileKind, tuple[int, int, int]] = {
    "object": (20, 60, 220),
    "empty": (0, 170, 190),
    "unlabelled": (150, 60, 200),
    "left out": (240, 150, 0),
    "glass": (170, 170, 170),
}
# Neighbouring tiles overlap; drawn smaller they stay apart.
_SHRINK = 0.7
_TINT = 0.12


def mask_picture(slide: Slide, plan: TilePlan) -> Image:
    """``slide`` as a thumbnail of at most 1024 px, uint8 RGB, with a caption below.

    The tissue is outlined in green, boxes of objects in red. Tiles are drawn smaller than they are, in
    the colour of their kind: blue with an object, turquoise empty and kept, orange empty and left out,
    violet on a slide that nobody annotated, grey with too little tissue.
    """
    picture = slide.thumbnail(_MAX_SIDE_PX)
    size = Size(picture.shape[1], picture.shape[0])
    _draw_tiles(picture, plan, slide.region, size)
    mask = cv2.resize(plan.tissue.mask.astype(np.uint8), (size.width, size.height), interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, _TISSUE_RGB, 1 + max(picture.shape) // 600)
    for tile in plan.kept:
        for box in tile.boxes:
            _rectangle(picture, slide.region.to_px(box.xyxy, size)[0], _BOX_RGB)
    return _captioned(picture, plan)


def _draw_tiles(picture: Image, plan: TilePlan, whole: Region, size: Size) -> None:
    tint, edges = picture.copy(), []
    for tile in plan.tiles:
        region, colour = tile.region, _KIND_RGB[tile.kind]
        dx, dy = region.width * (1 - _SHRINK) / 2, region.height * (1 - _SHRINK) / 2
        edge = whole.to_px((region.x + dx, region.y + dy, region.x1 - dx, region.y1 - dy), size)[0]
        edges.append((edge, colour))
        if tile.kind != "glass":
            _rectangle(tint, edge, colour, cv2.FILLED)
    cv2.addWeighted(tint, _TINT, picture, 1 - _TINT, 0, dst=picture)
    for edge, colour in edges:
        _rectangle(picture, edge, colour)


def _rectangle(picture: Image, box: NDArray[np.float64], colour: tuple[int, int, int], thickness: int = 1) -> None:
    x0, y0, x1, y1 = np.round(box).astype(int).tolist()
    cv2.rectangle(picture, (x0, y0), (x1, y1), colour, thickness)


def _captioned(picture: Image, plan: TilePlan) -> Image:
    height, width = picture.shape[:2]
    canvas = np.full((height + _CAPTION_PX, max(width, _MIN_WIDTH_PX), 3), 255, np.uint8)
    canvas[:height, :width] = picture
    counts, x = plan.counts(), 4
    entries = [(f"{kind} {counts[kind]}", _KIND_RGB[kind]) for kind in shown_kinds(counts)]
    for text, colour in [*entries, (f"tissue {plan.tissue.area_um2() / 1e6:.2f} mm2", _TISSUE_RGB)]:
        cv2.rectangle(canvas, (x, height + 7), (x + 10, height + 17), colour, cv2.FILLED)
        cv2.putText(canvas, text, (x + 14, height + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        x += 30 + 8 * len(text)
    return canvas
