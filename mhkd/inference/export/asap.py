"""ASAP XML: a group per class, a rectangle per detection."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from mhkd.inference.export.features import corners, hex_color, sizes_um
from mhkd.inference.export.record import SlideRecord
from mhkd.inference.export.xml import write_xml


def write_asap(path: str | Path, record: SlideRecord) -> None:
    """Write annotations and groups, atomically; coordinates in level-0 pixels. Names have number, score and size."""
    found = record.detections
    root = Element("ASAP_Annotations")
    annotations = SubElement(root, "Annotations")
    diameters_um = sizes_um(found, record.slide.mpp_xy)[:, 2].tolist()
    rows = zip(found.boxes_l0, found.scores.tolist(), found.labels.tolist(), diameters_um, strict=True)
    for number, (box, score, label, diameter_um) in enumerate(rows, start=1):
        annotation = SubElement(
            annotations,
            "Annotation",
            Name=f"{number}: score {score:.4f}, {diameter_um:.2f} um",
            Type="Rectangle",
            PartOfGroup=found.class_names[label],
            Color=hex_color(label),
        )
        coordinates = SubElement(annotation, "Coordinates")
        for order, (x, y) in enumerate(corners(box)):
            SubElement(coordinates, "Coordinate", Order=str(order), X=f"{x:.2f}", Y=f"{y:.2f}")
    groups = SubElement(root, "AnnotationGroups")
    for label, name in enumerate(found.class_names):
        group = SubElement(groups, "Group", Name=name, PartOfGroup="None", Color=hex_color(label))
        SubElement(group, "Attributes")
    write_xml(path, root)
