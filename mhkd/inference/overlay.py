"""A small picture of the slide with what was found drawn on it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mhkd.inference.export.features import class_color
from mhkd.structures import SlideDetections
from preprocess.files import atomic_path
from preprocess.geometry import Size
from preprocess.slide import Slide

OVERLAY_MAX_SIDE_PX = 2000

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_overlay(slide: Slide, detections: SlideDetections, *, max_side_px: int = OVERLAY_MAX_SIDE_PX) -> np.ndarray:
    """The slide's thumbnail, uint8 RGB (h, w, 3) with max(h, w) <= max_side_px, with boxes and their scores."""
    image = slide.thumbnail(max_side_px).copy()
    size = Size(width=image.shape[1], height=image.shape[0])
    line_px = max(1, round(max(size.width, size.height) / 800))
    boxes_px = slide.region.to_px(detections.boxes_l0, size).round().astype(int).tolist()
    for (x0, y0, x1, y1), score, label in reversed(
        list(zip(boxes_px, detections.scores.tolist(), detections.labels.tolist(), strict=True))
    ):
        cv2.rectangle(image, (x0, y0), (x1, y1), class_color(label), line_px)
        _write_score(image, f"{score:.2f}", (x0, y0), line_px)
    return image


def write_overlay(path: str | Path, image: np.ndarray) -> None:
    """Write ``image``, uint8 RGB (h, w, 3), as a PNG file, atomically."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())  # not cv2.imwrite: it hides why a write failed


def _write_score(image: np.ndarray, text: str, corner: tuple[int, int], line_px: int) -> None:
    """Black on white on the box's top left corner, moved inside the image where it would leave it."""
    scale = 0.4 * line_px**0.5
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    x = int(np.clip(corner[0], 0, max(0, image.shape[1] - width)))
    y = int(np.clip(corner[1] - baseline, height, image.shape[0] - 1))
    cv2.rectangle(image, (x, y - height - 1), (x + width, y + 1), (255, 255, 255), cv2.FILLED)
    cv2.putText(image, text, (x, y), _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
