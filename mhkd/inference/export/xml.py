"""XML files: what the formats that use it share."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from preprocess.base.files import write_text

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_xml(path: str | Path, root: ElementTree.Element) -> None:
    """Write ``root``, indented, in UTF-8, atomically; characters that XML cannot hold become question marks."""
    for element in root.iter():
        for name, value in element.attrib.items():
            element.set(name, _NOT_XML.sub("?", value))
    ElementTree.indent(root)
    write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n')
