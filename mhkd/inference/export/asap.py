"""ASAP XML: a group per class, a rectangle per detection."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from mhkd.inference.export.features import corners, hex_color, iter_rows
from mhkd.inference.export.record import SlideRecord
from mhkd.inference.export.xml import write_xml


def write_asap(path: str | Path, record: SlideRecord) -> None:
    """Write annotations and groups, atomically; coordinates in level-0 pixels. Names have number, score and size."""
    root = Element("ASAP_Annotations")
    annotations = SubElement(root, "Annotations")
    for number, row in enumerate(iter_rows(record), start=1):
        annotation = SubElement(
            annotations,
            "Annotation",
            Name=f"{number}: score {row.score:.4f}, {row.diameter_um:.2f} um",
            Type="Rectangle",
            PartOfGroup=row.name,
            Color=hex_color(row.label),
        )
        coordinates = SubElement(annotation, "Coordinates")
        for order, (x, y) in enumerate(corners(row.box)):
            SubElement(coordinates, "Coordinate", Order=str(order), X=f"{x:.2f}", Y=f"{y:.2f}")
    groups = SubElement(root, "AnnotationGroups")
    for label, name in enumerate(record.detections.class_names):
        group = SubElement(groups, "Group", Name=name, PartOfGroup="None", Color=hex_color(label))
        SubElement(group, "Attributes")
    write_xml(path, root)
