from __future__ import annotations

from defusedxml import ElementTree

from mhkd.inference.export.imagescope import write_imagescope
from tests.records import CLASSES, record


def test_a_layer_for_each_class_and_a_rectangle_for_each_detection(tmp_path):
    write_imagescope(tmp_path / "a.xml", record())
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert root.attrib == {"MicronsPerPixel": "0.500000"}
    layers = root.findall("Annotation")
    assert [layer.get("Name") for layer in layers] == list(CLASSES)
    assert layers[0].get("LineColor") == str(230 + 25 * 256 + 75 * 65536)  # blue is the highest byte
    (region,) = layers[0].findall("Regions/Region")
    assert (region.get("Type"), region.get("Text")) == ("1", "score 0.9000, 70.71 um, tissue fragment 1")
    assert (region.get("AreaMicrons"), region.get("LengthMicrons")) == ("5000.0", "300.0")
    corners = [(float(v.get("X")), float(v.get("Y"))) for v in region.findall("Vertices/Vertex")]
    assert corners == [(10, 20), (110, 20), (110, 220), (10, 220)]
