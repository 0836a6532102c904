from __future__ import annotations

import json

import numpy as np

from mhkd.inference.export.geojson import write_geojson
from mhkd.structures import SlideDetections
from preprocess.annotations import read_annotations

FOUND = SlideDetections(
    np.array([[10.0, 20, 110, 220], [300, 300.126, 340, 340]]),
    np.array([0.9, 0.51]),
    np.array([0, 1]),
    ("glomerulus", "x"),
)


def write(path, found=FOUND):
    write_geojson(path, found, slide_name="a", mpp=0.5)
    return json.loads(path.read_text())


def test_qupath_gets_closed_rectangles_classes_and_measurements(tmp_path):
    feature = write(tmp_path / "a.geojson")["features"][0]
    assert feature["geometry"]["coordinates"] == [[[10, 20], [110, 20], [110, 220], [10, 220], [10, 20]]]
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"]["name"] == "glomerulus"
    assert feature["properties"]["measurements"] == {"score": 0.9, "diameter_um": 70.71}  # sqrt(50 * 100)


def test_what_was_written_reads_back_as_annotations(tmp_path):
    write(tmp_path / "a.geojson")
    read = read_annotations(tmp_path / "a.geojson")
    assert [annotation.label for annotation in read] == ["glomerulus", "x"]
    np.testing.assert_allclose([annotation.polygon.bounds for annotation in read], FOUND.boxes_l0, atol=0.005)


def test_ids_are_stable_and_tell_slides_apart(tmp_path):
    first, again = write(tmp_path / "a.geojson"), write(tmp_path / "b.geojson")
    assert first == again
    assert len({feature["id"] for feature in first["features"]}) == 2
    write_geojson(tmp_path / "c.geojson", FOUND, slide_name="c", mpp=0.5)
    assert json.loads((tmp_path / "c.geojson").read_text())["features"][0]["id"] != first["features"][0]["id"]


def test_nothing_found_is_an_empty_collection(tmp_path):
    assert write(tmp_path / "a.geojson", SlideDetections.empty(("x",))) == {"type": "FeatureCollection", "features": []}
