"""JSON of the Digital Slide Archive and HistomicsUI: upload it to the slide's item as an annotation."""

from __future__ import annotations

from pathlib import Path

from mhkd.inference.export.features import class_color, iter_rows
from mhkd.inference.export.json_items import write_items
from mhkd.inference.export.record import SlideRecord


def write_dsa(path: str | Path, record: SlideRecord) -> None:
    """Write one annotation with a rectangle per detection, atomically; centres and sizes in level-0 pixels.

    The class is the group, in which HistomicsUI shows, hides and counts; score and size are in ``user``.
    """
    elements = []
    for row in iter_rows(record):
        x0, y0, x1, y1 = row.box
        elements.append(
            {
                "id": row.id.replace("-", "")[:24],  # the archive's ids have 24 hexadecimal digits
                "type": "rectangle",
                # A hundredth of a pixel for the edges takes half of one for the centre.
                "center": [round((x0 + x1) / 2, 3), round((y0 + y1) / 2, 3), 0],
                "width": round(x1 - x0, 2),
                "height": round(y1 - y0, 2),
                "rotation": 0,
                "group": row.name,
                "label": {"value": f"{row.name} {row.score:.2f}"},
                "lineColor": "rgb({}, {}, {})".format(*class_color(row.label)),
                "lineWidth": 2,
                "user": {"score": row.score, "diameter_um": row.diameter_um, "tissue_fragment": row.fragment},
            }
        )
    head = {
        "name": "mhkd detections",
        "description": "detections of a model: for research use only",
        "attributes": {"slide": record.file_name, **record.provenance},
    }
    write_items(path, head, "elements", elements)
