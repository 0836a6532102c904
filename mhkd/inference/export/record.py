"""What every output of a slide is made from: the detections, where they lie, and what made them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mhkd.structures import SlideDetections
from preprocess.annotations.origin import Origin
from preprocess.slides.slide import Slide


@dataclass(frozen=True)
class SlideRecord:
    """One slide that was searched.

    Attributes:
        name: begins the names of the outputs.
        file_name: what the outputs call the slide: its own name, or a neutral one.
        detections: N of them, boxes in level-0 pixels.
        fragments: (N,) the piece of tissue of each detection, from 1, or 0.
        qupath_origin: where the GeoJSON counts from, ``bounds`` for QuPath (docs/slides.md).
        unreadable_l0: (M, 4) xyxy in level-0 pixels, what could not be searched.
        provenance: plain values, without paths, that formats with a place for them repeat.
        summary: what will be the slide's JSON (:mod:`mhkd.inference.summary`).
    """

    slide: Slide
    name: str
    file_name: str
    detections: SlideDetections
    fragments: np.ndarray
    qupath_origin: Origin = "bounds"
    unreadable_l0: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))
    provenance: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def quantized(detections: SlideDetections) -> SlideDetections:
    """``detections`` as every output states them: boxes to 0.01 level-0 pixels, scores to four digits; sorted.

    Rounded once and for all, so that all formats hold the same numbers, and what is read back from the CSV is what
    was found.
    """
    return replace(detections, boxes_l0=detections.boxes_l0.round(2), scores=detections.scores.round(4)).sort()
