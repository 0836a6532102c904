"""A small picture of the slide with what was found drawn on it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mhkd.inference.export.features import class_color
from mhkd.inference.export.record import SlideRecord
from mhkd.structures import SlideDetections
from preprocess.base.files import atomic_path
from preprocess.base.geometry import Size
from preprocess.base.images import encode_image
from preprocess.slides.slide import Slide

OVERLAY_MAX_SIDE_PX = 3000

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_UNREADABLE_RGB = (128, 128, 128)


def write_overlay(path: str | Path, record: SlideRecord) -> None:
    """Write the picture that :func:`draw_overlay` draws to a ``.jpg`` or ``.png`` file, atomically."""
    image = draw_overlay(record.slide, record.detections, unreadable_l0=record.unreadable_l0)
    data = encode_image(image, Path(path).suffix, quality=85)  # to look at
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def draw_overlay(
    slide: Slide,
    detections: SlideDetections,
    *,
    max_side_px: int = OVERLAY_MAX_SIDE_PX,
    unreadable_l0: np.ndarray | None = None,
) -> np.ndarray:
    """The slide's thumbnail, uint8 RGB (h, w, 3) with max(h, w) <= max_side_px, with boxes and their scores.

    ``unreadable_l0``, (M, 4) xyxy in level-0 pixels, is what could not be searched: it is crossed out in grey.
    """
    image = slide.thumbnail(max_side_px).copy()
    size = Size(width=image.shape[1], height=image.shape[0])
    line_px = max(1, round(max(size.width, size.height) / 1000))
    unreadable = np.empty((0, 4)) if unreadable_l0 is None else unreadable_l0
    crossed, boxes = (
        slide.region.to_px(part, size).round().astype(int).tolist() for part in (unreadable, detections.boxes_l0)
    )
    for x0, y0, x1, y1 in crossed:
        cv2.rectangle(image, (x0, y0), (x1, y1), _UNREADABLE_RGB, line_px)
        cv2.line(image, (x0, y0), (x1, y1), _UNREADABLE_RGB, line_px)
        cv2.line(image, (x0, y1), (x1, y0), _UNREADABLE_RGB, line_px)
    rows = zip(boxes, detections.scores.tolist(), detections.labels.tolist(), strict=True)
    for (x0, y0, x1, y1), score, label in reversed(list(rows)):
        cv2.rectangle(image, (x0, y0), (x1, y1), class_color(label), line_px)
        _write_score(image, f"{score:.2f}", (x0, y0), line_px)
    return image


def _write_score(image: np.ndarray, text: str, corner: tuple[int, int], line_px: int) -> None:
    """Black on white on the box's top left corner, moved inside the image where it would leave it."""
    scale = 0.4 * line_px**0.5
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    x = int(np.clip(corner[0], 0, max(0, image.shape[1] - width)))
    y = int(np.clip(corner[1] - baseline, height, image.shape[0] - 1))
    cv2.rectangle(image, (x, y - height - 1), (x + width, y + 1), (255, 255, 255), cv2.FILLED)
    cv2.putText(image, text, (x, y), _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
