"""COCO JSON of one slide: the slide is the image, at its level-0 size."""

from __future__ import annotations

from pathlib import Path

from mhkd.inference.export.features import corners, iter_rows
from mhkd.inference.export.json_items import write_items
from mhkd.inference.export.record import SlideRecord


def write_coco(path: str | Path, record: SlideRecord) -> None:
    """Write images, annotations and categories, atomically; boxes are XYWH in level-0 pixels, ids count from 1.

    Each annotation also has its ``score``, and its box as a polygon, which some programs ask for.
    """
    size, class_names = record.slide.size, record.detections.class_names
    annotations = []
    for number, row in enumerate(iter_rows(record), start=1):
        x0, y0, x1, y1 = row.box
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": row.label + 1,
                "bbox": [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)],
                "area": round((x1 - x0) * (y1 - y0), 2),
                "segmentation": [[value for corner in corners(row.box) for value in corner]],
                "iscrowd": 0,
                "score": row.score,
                "attributes": {"diameter_um": row.diameter_um, "tissue_fragment": row.fragment},
            }
        )
    head = {
        "info": {"description": "mhkd detections", **record.provenance},
        "images": [{"id": 1, "file_name": record.file_name, "width": size.width, "height": size.height}],
        "categories": [{"id": label, "name": name} for label, name in enumerate(class_names, start=1)],
    }
    write_items(path, head, "annotations", annotations)
