"""What every export says about a detection beyond its box: a stable identity, a colour and its size in micrometres."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mhkd.inference.export.record import SlideRecord
from mhkd.structures import SlideDetections

PALETTE_RGB = ((230, 25, 75), (0, 130, 200), (60, 180, 75), (245, 130, 48), (145, 30, 180), (0, 150, 150))

_NAMESPACE = uuid.UUID("6d686b64-0000-4000-8000-676c6f6d6572")


class Row(NamedTuple):
    """One detection as the exports state it: xyxy ``box`` in level-0 pixels, ``diameter_um`` as :func:`sizes_um`."""

    id: str
    box: list[float]
    score: float
    label: int
    name: str
    diameter_um: float
    fragment: int


def iter_rows(record: SlideRecord) -> Iterator[Row]:
    """The detections of ``record``, one by one, numbers rounded as they are to be written."""
    found = record.detections
    columns = (
        detection_ids(found, record.name),
        found.boxes_l0.tolist(),
        found.scores.tolist(),
        found.labels.tolist(),
        sizes_um(found, record.slide.mpp_xy)[:, 2].tolist(),
        record.fragments.tolist(),
    )
    for identity, box, score, label, diameter_um, fragment in zip(*columns, strict=True):
        name = found.class_names[label]
        yield Row(identity, box, round(score, 4), label, name, round(diameter_um, 2), fragment)


def detection_ids(detections: SlideDetections, slide_name: str) -> list[str]:
    """A UUID for each detection, the same in every format and whenever the same box is found in the same slide.

    It is a hash of ``slide_name`` among others: to keep that name secret, give a neutral one.
    """
    return [
        str(
            uuid.uuid5(_NAMESPACE, f"{slide_name}/{detections.class_names[label]}/" + "/".join(f"{v:.2f}" for v in box))
        )
        for box, label in zip(detections.boxes_l0, detections.labels, strict=True)
    ]


def class_color(label: int) -> tuple[int, int, int]:
    """The RGB colour of class ``label``."""
    return PALETTE_RGB[label % len(PALETTE_RGB)]


def hex_color(label: int) -> str:
    """The colour of class ``label`` as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*class_color(label))


def boxes_um(detections: SlideDetections, mpp_xy: tuple[float, float]) -> np.ndarray:
    """(N, 4) xyxy in micrometres from the corner of the slide; ``mpp_xy`` in um per level-0 pixel."""
    return detections.boxes_l0 * np.tile(mpp_xy, 2)


def sizes_um(detections: SlideDetections, mpp_xy: tuple[float, float]) -> np.ndarray:
    """(N, 3) micrometres: width, height, and the diameter of the circle with the area of the box's inner ellipse."""
    boxes = boxes_um(detections, mpp_xy)
    width_height = boxes[:, 2:] - boxes[:, :2]
    return np.column_stack((width_height, np.sqrt(width_height.prod(axis=1))))


def corners(box: Sequence[float]) -> list[tuple[float, float]]:
    """The four corners (x, y) of a box xyxy, clockwise from the top left."""
    x0, y0, x1, y1 = (round(value, 2) for value in box)
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
