"""COCO JSON of one slide: the slide is the image, at its level-0 size."""

from __future__ import annotations

import json
from pathlib import Path

from mhkd.inference.export.features import corners, sizes_um
from mhkd.inference.export.record import SlideRecord
from preprocess.base.files import write_text


def write_coco(path: str | Path, record: SlideRecord) -> None:
    """Write images, annotations and categories, atomically; boxes are XYWH in level-0 pixels, ids count from 1.

    Each annotation also has its ``score``, and its box as a polygon, which some programs ask for.
    """
    found, size = record.detections, record.slide.size
    rows = zip(
        found.boxes_l0,
        found.scores.tolist(),
        found.labels.tolist(),
        sizes_um(found, record.slide.mpp_xy)[:, 2].tolist(),
        record.fragments.tolist(),
        strict=True,
    )
    annotations = []
    for number, (box, score, label, diameter_um, fragment) in enumerate(rows, start=1):
        x0, y0, x1, y1 = box.tolist()
        annotation = {
            "id": number,
            "image_id": 1,
            "category_id": label + 1,
            "bbox": [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)],
            "area": round((x1 - x0) * (y1 - y0), 2),
            "segmentation": [[value for corner in corners(box) for value in corner]],
            "iscrowd": 0,
            "score": round(score, 4),
            "attributes": {"diameter_um": round(diameter_um, 2), "tissue_fragment": fragment},
        }
        annotations.append(json.dumps(annotation))
    head = {
        "info": {"description": "mhkd detections", **record.provenance},
        "images": [{"id": 1, "file_name": record.file_name, "width": size.width, "height": size.height}],
        "categories": [{"id": label, "name": name} for label, name in enumerate(found.class_names, start=1)],
    }
    lines = ",\n".join(annotations)
    write_text(path, f'{json.dumps(head)[:-1]}, "annotations": [\n{lines}\n]}}\n')
