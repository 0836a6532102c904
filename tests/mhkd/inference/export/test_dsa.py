from __future__ import annotations

import json
import re

from mhkd.inference.export.dsa import write_dsa
from tests.records import record

# What the schema of large_image's annotations allows for a rectangle.
ALLOWED = {
    *("id", "label", "group", "user", "fillColor", "lineColor", "lineWidth"),
    *("type", "center", "width", "height", "rotation", "normal"),
}


def test_elements_are_rectangles_as_the_archive_takes_them(tmp_path):
    write_dsa(tmp_path / "a.json", record())
    content = json.loads((tmp_path / "a.json").read_text())
    assert set(content) == {"name", "description", "attributes", "elements"}
    first = content["elements"][0]
    assert (first["center"], first["width"], first["height"], first["rotation"]) == ([60, 120, 0], 100, 200, 0)
    assert (first["group"], first["label"]) == ("glomerulus", {"value": "glomerulus 0.90"})
    assert first["user"] == {"score": 0.9, "diameter_um": 70.71, "tissue_fragment": 1}
    for element in content["elements"]:
        assert set(element) <= ALLOWED
        assert re.fullmatch(r"[0-9a-f]{24}", element["id"])
        assert re.fullmatch(r"rgb\(\d+, \d+, \d+\)", element["lineColor"])
