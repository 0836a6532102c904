"""What every export says about a detection beyond its box: a stable identity, a colour and its size in micrometres."""

from __future__ import annotations

import uuid

import numpy as np

from mhkd.structures import SlideDetections

PALETTE_RGB = ((230, 25, 75), (0, 130, 200), (60, 180, 75), (245, 130, 48), (145, 30, 180), (0, 150, 150))

_NAMESPACE = uuid.UUID("6d686b64-0000-4000-8000-676c6f6d6572")


def detection_ids(detections: SlideDetections, slide_name: str) -> list[str]:
    """A UUID for each detection, the same in every format and whenever the same box is found in the same slide."""
    return [
        str(
            uuid.uuid5(_NAMESPACE, f"{slide_name}/{detections.class_names[label]}/" + "/".join(f"{v:.2f}" for v in box))
        )
        for box, label in zip(detections.boxes_l0, detections.labels, strict=True)
    ]


def class_color(label: int) -> tuple[int, int, int]:
    """The RGB colour of class ``label``."""
    return PALETTE_RGB[label % len(PALETTE_RGB)]


def sizes_um(detections: SlideDetections, mpp: float) -> np.ndarray:
    """(N, 3) micrometres: width, height, and the diameter of the circle with the area of the box's inner ellipse."""
    width_height = (detections.boxes_l0[:, 2:] - detections.boxes_l0[:, :2]) * mpp
    return np.column_stack((width_height, np.sqrt(width_height.prod(axis=1))))
