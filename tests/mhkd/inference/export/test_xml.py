from __future__ import annotations

from xml.etree.ElementTree import Element

from defusedxml import ElementTree

from mhkd.inference.export.xml import write_xml


def test_names_that_xml_cannot_hold_are_escaped_or_replaced(tmp_path):
    write_xml(tmp_path / "a.xml", Element("a", name='<\x00\ud800&">ü肾'))
    assert ElementTree.parse(tmp_path / "a.xml").getroot().attrib == {"name": '<??&">ü肾'}
