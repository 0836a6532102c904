"""A slide with detections, as the exports get it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mhkd.inference.export.record import SlideRecord, quantized
from mhkd.structures import SlideDetections
from preprocess.base.geometry import Region, Size

CLASSES = ("glomerulus", 'sclerotic & "odd" <x>')

_SIZE, _REGION = Size(40_000, 30_000), Region(0, 0, 40_000, 30_000)


@dataclass(frozen=True)
class FrameOnly:
    """What the exports ask of a slide but for its pixels."""

    name: str = "a"
    size: Size = _SIZE
    region: Region = _REGION
    mpp_xy: tuple[float, float] = (0.5, 0.5)
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def mpp(self) -> float:
        return float(np.sqrt(np.prod(self.mpp_xy)))


def detections(boxes=((10, 20, 110, 220), (300, 300.126, 340, 340)), scores=(0.9, 0.51), labels=(0, 1)):
    return SlideDetections(np.array(boxes, float).reshape(-1, 4), np.array(scores), np.array(labels), CLASSES)


def record(found: SlideDetections | None = None, slide: Any = FrameOnly(), **fields: Any) -> SlideRecord:
    found = quantized(detections() if found is None else found)
    defaults = {
        "name": "a",
        "file_name": "a.svs",
        "fragments": np.arange(1, len(found) + 1),
        "provenance": {"model": "detector.pth", "model_sha256": "0" * 64, "score_thresh": 0.5, "git_commit": None},
    }
    return SlideRecord(slide=slide, detections=found, **{**defaults, **fields})
