from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.annotations import read_annotations
from preprocess.errors import UserError

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 6], [0, 0]]


def shifted(ring, by):
    return [[x + by, y] for x, y in ring]


def feature(kind, coordinates, **properties):
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


@pytest.fixture
def read(tmp_path):
    def write_and_read(content):
        path = tmp_path / "annotations.geojson"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_annotations(path)

    return write_and_read


@pytest.mark.parametrize(
    "wrap",
    [lambda f: {"type": "FeatureCollection", "features": [f]}, lambda f: [f], lambda f: f],
    ids=["FeatureCollection", "list", "single"],
)
def test_every_way_to_hold_a_feature(read, wrap):
    (found,) = read(wrap(feature("Polygon", [SQUARE], classification={"name": "Glomerulus"})))
    assert (found.label, found.polygon.area) == ("Glomerulus", 100)


@pytest.mark.parametrize("empty", ["[]", '{"type": "FeatureCollection", "features": []}', " [ ] "])
def test_a_slide_without_objects(read, empty):
    assert read(empty) == []


@pytest.mark.parametrize(
    ("properties", "label"),
    [
        ({"classification": {"name": "Tuft "}}, "Tuft"),
        ({"classification": {"names": ["Tuft", "sclerotic"]}}, "Tuft: sclerotic"),
        ({"classification": "Tuft"}, "Tuft"),
        ({"classification": None}, "Unclassified"),
        ({}, "Unclassified"),
    ],
)
def test_labels(read, properties, label):
    assert [a.label for a in read([feature("Polygon", [SQUARE], **properties)])] == [label]


def test_holes_are_cut_out(read):
    assert read([feature("Polygon", [SQUARE, HOLE])])[0].polygon.area == 96


def test_parts_of_a_multipolygon_are_objects_and_crumbs_are_not(read):
    crumb = [[50, 50], [50.5, 50], [50.5, 50.5], [50, 50]]
    found = read([feature("MultiPolygon", [[SQUARE], [shifted(SQUARE, 100)], [crumb]])])
    assert [a.polygon.bounds for a in found] == [(0, 0, 10, 10), (100, 0, 110, 10)]


def test_an_outline_that_crosses_itself_is_its_largest_part(read):
    (found,) = read([feature("Polygon", [BOW_TIE])])
    assert found.polygon.is_valid
    assert found.polygon.bounds[2] == 10


def test_points_lines_and_outlines_without_area_are_skipped(read):
    others = [
        feature("Point", [1, 2]),
        feature("LineString", [[0, 0], [5, 5]]),
        feature("Polygon", [[[0, 0], [5, 5], [0, 0]]]),
        feature("Polygon", [[[0, 0], [5, 5], [9, 9], [0, 0]]]),
        feature("Polygon", []),
        {"type": "Feature", "geometry": None, "properties": None},
    ]
    assert len(read([*others, feature("Polygon", [SQUARE])])) == 1
    with pytest.raises(UserError, match="none of its 6 features is an area"):
        read(others)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("<Annotations/>", "unknown annotation format"),
        ('{"annotation": {"elements": [{"type": "polyline"}]}}', "unknown annotation format"),
        ('{"type": "FeatureCollection", "features": [{"type": "Fea', "damaged GeoJSON"),
        ('{"type": "FeatureCollection"}', "without a list of features"),
        ('["Feature"]', "feature 1 is damaged"),
        ("[" * 100_000 + '"Feature"', "damaged GeoJSON"),
        ([feature("Circle", SQUARE)], "unknown geometry 'Circle'"),
        ([feature("Polygon", [SQUARE]), feature("Polygon", 7)], "feature 2 is damaged"),
        ([feature("Polygon", [[[0, 0], ["a", 1], [1, 1]]])], "feature 1 is damaged"),
        ([feature("Polygon", [[[0, 0], [float("nan"), 1], [1, 1]]])], "not a finite number"),
        ([feature("Polygon", [[[0, 0], [float("inf"), 1], [1, 1]]])], "not a finite number"),
        ([{"type": "Feature", "properties": {}}], "no 'geometry'"),
    ],
)
def test_bad_files_are_one_clear_line_with_the_path(read, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(content)
    assert "annotations.geojson" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(UserError, match="no such annotation file"):
        read_annotations(tmp_path / "none.geojson")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="not a text file"):
        read_annotations(tmp_path / "binary")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["Polygon", "Feature", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "geometry", "coordinates", "properties", "classification"]), inner)
    ),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=3))
def test_garbage_never_ends_in_anything_but_a_user_error(tmp_path_factory, features):
    path = tmp_path_factory.getbasetemp() / "garbage.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with contextlib.suppress(UserError):
        read_annotations(path)
