from __future__ import annotations

from defusedxml import ElementTree

from mhkd.inference.export.asap import write_asap
from tests.records import CLASSES, record


def test_a_group_for_each_class_and_a_rectangle_for_each_detection(tmp_path):
    write_asap(tmp_path / "a.xml", record())
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert [group.get("Name") for group in root.findall("AnnotationGroups/Group")] == list(CLASSES)
    first, second = root.findall("Annotations/Annotation")
    assert first.attrib == {
        "Name": "1: score 0.9000, 70.71 um",
        "Type": "Rectangle",
        "PartOfGroup": "glomerulus",
        "Color": "#e6194b",
    }
    assert second.get("PartOfGroup") == CLASSES[1]
    points = [(c.get("Order"), float(c.get("X")), float(c.get("Y"))) for c in first.findall("Coordinates/Coordinate")]
    assert points == [("0", 10, 20), ("1", 110, 20), ("2", 110, 220), ("3", 10, 220)]
