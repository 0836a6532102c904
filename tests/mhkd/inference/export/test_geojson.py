from __future__ import annotations

import json

from mhkd.inference.export.geojson import write_geojson
from mhkd.structures import SlideDetections
from preprocess.base.geometry import Region
from tests.records import CLASSES, FrameOnly, record


def write(path, one=None):
    write_geojson(path, one or record())
    return json.loads(path.read_text())


def test_qupath_gets_closed_rectangles_classes_and_measurements(tmp_path):
    feature = write(tmp_path / "a.geojson")["features"][0]
    assert feature["geometry"]["coordinates"] == [[[10, 20], [110, 20], [110, 220], [10, 220], [10, 20]]]
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"] == {"name": "glomerulus", "color": [230, 25, 75]}
    # sqrt(50 * 100)
    assert feature["properties"]["measurements"] == {"score": 0.9, "diameter_um": 70.71, "tissue_fragment": 1}


def test_coordinates_count_from_the_scanned_part_or_from_the_slide(tmp_path):
    slide = FrameOnly(region=Region(8, 16, 20_000, 10_000))
    for origin, corner in (("bounds", [2, 4]), ("slide", [10, 20])):
        content = write(tmp_path / "a.geojson", record(slide=slide, qupath_origin=origin))
        assert content["features"][0]["geometry"]["coordinates"][0][0] == corner
        assert content["mhkd"]["origin"] == origin


def test_ids_are_stable_and_tell_slides_apart(tmp_path):
    first, again = write(tmp_path / "a.geojson"), write(tmp_path / "b.geojson")
    assert first == again
    assert len({feature["id"] for feature in first["features"]}) == 2
    other = write(tmp_path / "c.geojson", record(name="c"))
    assert other["features"][0]["id"] != first["features"][0]["id"]


def test_nothing_found_is_an_empty_collection_that_says_what_searched(tmp_path):
    content = write(tmp_path / "a.geojson", record(SlideDetections.empty(CLASSES)))
    assert content["features"] == []
    assert content["mhkd"]["model"] == "detector.pth"
