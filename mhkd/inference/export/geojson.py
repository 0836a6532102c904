"""QuPath GeoJSON: drag the file onto the open slide and each detection is an annotation that can be corrected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mhkd.inference.export.features import class_color, corners, detection_ids, sizes_um
from mhkd.inference.export.record import SlideRecord
from preprocess.base.files import write_text


def write_geojson(path: str | Path, record: SlideRecord) -> None:
    """Write a FeatureCollection, atomically: one closed rectangle per detection in level-0 pixels.

    They count from where ``record.qupath_origin`` says. ``measurements`` is a dict, as QuPath 0.4 and later read it.
    """
    found, region = record.detections, record.slide.region
    origin_l0 = (region.x, region.y) if record.qupath_origin == "bounds" else (0.0, 0.0)
    rows = zip(
        detection_ids(found, record.name),
        found.boxes_l0 - np.tile(origin_l0, 2),
        found.scores.tolist(),
        found.labels.tolist(),
        sizes_um(found, record.slide.mpp_xy)[:, 2].tolist(),
        record.fragments.tolist(),
        strict=True,
    )
    features = [
        json.dumps(_feature(identity, box, found.class_names[label], class_color(label), score, diameter_um, fragment))
        for identity, box, score, label, diameter_um, fragment in rows
    ]
    lines = ",\n".join(features)
    about = json.dumps({"slide": record.file_name, "origin": record.qupath_origin, **record.provenance})
    write_text(path, f'{{"type": "FeatureCollection", "mhkd": {about}, "features": [\n{lines}\n]}}\n')


def _feature(
    identity: str,
    box: np.ndarray,
    name: str,
    color: tuple[int, int, int],
    score: float,
    diameter_um: float,
    fragment: int,
) -> dict[str, Any]:
    ring = corners(box)
    return {
        "type": "Feature",
        "id": identity,
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name, "color": list(color)},
            "measurements": {
                "score": round(score, 4),
                "diameter_um": round(diameter_um, 2),
                "tissue_fragment": fragment,
            },
        },
    }
