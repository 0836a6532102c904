"""QuPath GeoJSON: drag the file onto the open slide and each detection is an annotation that can be corrected."""

from __future__ import annotations

from pathlib import Path

from mhkd.inference.export.features import class_color, corners, iter_rows
from mhkd.inference.export.json_items import write_items
from mhkd.inference.export.record import SlideRecord


def write_geojson(path: str | Path, record: SlideRecord) -> None:
    """Write a FeatureCollection, atomically: one closed rectangle per detection in level-0 pixels.

    They count from where ``record.qupath_origin`` says. ``measurements`` is a dict, as QuPath 0.4 and later read it.
    """
    region = record.slide.region
    left, top = (region.x, region.y) if record.qupath_origin == "bounds" else (0.0, 0.0)
    features = []
    for row in iter_rows(record):
        x0, y0, x1, y1 = row.box
        ring = corners((x0 - left, y0 - top, x1 - left, y1 - top))
        properties = {
            "objectType": "annotation",
            "classification": {"name": row.name, "color": class_color(row.label)},
            "measurements": {"score": row.score, "diameter_um": row.diameter_um, "tissue_fragment": row.fragment},
        }
        geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        features.append({"type": "Feature", "id": row.id, "geometry": geometry, "properties": properties})
    about = {"slide": record.file_name, "origin": record.qupath_origin, **record.provenance}
    write_items(path, {"type": "FeatureCollection", "mhkd": about}, "features", features)
