"""JSON of the Digital Slide Archive and HistomicsUI: upload it to the slide's item as an annotation."""

from __future__ import annotations

import json
from pathlib import Path

from mhkd.inference.export.features import class_color, detection_ids, sizes_um
from mhkd.inference.export.record import SlideRecord
from preprocess.base.files import write_text


def write_dsa(path: str | Path, record: SlideRecord) -> None:
    """Write one annotation with a rectangle per detection, atomically; centres and sizes in level-0 pixels.

    The class is the group, in which HistomicsUI shows, hides and counts; score and size are in ``user``.
    """
    found = record.detections
    rows = zip(
        detection_ids(found, record.name),
        found.boxes_l0.tolist(),
        found.scores.tolist(),
        found.labels.tolist(),
        sizes_um(found, record.slide.mpp_xy)[:, 2].tolist(),
        record.fragments.tolist(),
        strict=True,
    )
    elements = []
    for identity, (x0, y0, x1, y1), score, label, diameter_um, fragment in rows:
        element = {
            "id": identity.replace("-", "")[:24],  # the archive's ids have 24 hexadecimal digits
            "type": "rectangle",
            # A hundredth of a pixel for the edges takes half of one for the centre.
            "center": [round((x0 + x1) / 2, 3), round((y0 + y1) / 2, 3), 0],
            "width": round(x1 - x0, 2),
            "height": round(y1 - y0, 2),
            "rotation": 0,
            "group": found.class_names[label],
            "label": {"value": f"{found.class_names[label]} {score:.2f}"},
            "lineColor": "rgb({}, {}, {})".format(*class_color(label)),
            "lineWidth": 2,
            "user": {"score": round(score, 4), "diameter_um": round(diameter_um, 2), "tissue_fragment": fragment},
        }
        elements.append(json.dumps(element))
    head = {
        "name": "mhkd detections",
        "description": "detections of a model: for research use only",
        "attributes": {"slide": record.file_name, **record.provenance},
    }
    lines = ",\n".join(elements)
    write_text(path, f'{json.dumps(head)[:-1]}, "elements": [\n{lines}\n]}}\n')
