"""QuPath GeoJSON: drag the file onto the open slide and each detection is an annotation that can be corrected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mhkd.inference.export.features import class_color, detection_ids, sizes_um
from mhkd.structures import SlideDetections
from preprocess.files import write_text


def write_geojson(
    path: str | Path,
    detections: SlideDetections,
    *,
    slide_name: str,
    mpp: float,
    origin_l0: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write a FeatureCollection, atomically: one closed rectangle per detection in level-0 pixels.

    mpp: micrometres per level-0 pixel. origin_l0: where QuPath counts from, the corner of what was scanned
    (docs/slides.md). ``measurements`` is a dict, as QuPath 0.4 and later read it.
    """
    rows = zip(
        detection_ids(detections, slide_name),
        (detections.boxes_l0 - np.tile(origin_l0, 2)).tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        sizes_um(detections, mpp)[:, 2].tolist(),
        strict=True,
    )
    features = [
        json.dumps(_feature(identity, box, score, detections.class_names[label], class_color(label), diameter_um))
        for identity, box, score, label, diameter_um in rows
    ]
    lines = ",\n".join(features)
    write_text(path, f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n')


def _feature(
    identity: str, box: list[float], score: float, name: str, color: tuple[int, int, int], diameter_um: float
) -> dict[str, Any]:
    x0, y0, x1, y1 = (round(value, 2) for value in box)
    return {
        "type": "Feature",
        "id": identity,
        "geometry": {"type": "Polygon", "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name, "color": list(color)},
            "measurements": {"score": round(score, 4), "diameter_um": round(diameter_um, 2)},
        },
    }
