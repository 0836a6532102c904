from __future__ import annotations

import contextlib
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.annotations import read_annotations
from preprocess.base.errors import UserError

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 6], [0, 0]]


def shifted(ring, by):
    return [[x + by, y] for x, y in ring]


def feature(kind, coordinates, **properties):
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


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
    assert list(read(empty)) == []


@pytest.mark.parametrize(
    ("properties", "label"),
    [
        ({"classification": {"name": "Tuft "}}, "Tuft"),
        ({"classification": {"names": ["Tuft", "sclerotic"]}}, "Tuft: sclerotic"),
        ({"classification": "Tuft"}, "Tuft"),
        ({"classification": None}, "Unclassified"),
        ({"classification": '{"name": "Tuft", "color": [1, 2, 3]}'}, "Tuft"),
        ({"classification": "{'name': 'Tuft', 'colorRGB': -3670016}"}, "Tuft"),
        ({"classification": "{'names': ['Tuft', 'sclerotic']}"}, "Tuft: sclerotic"),
        ({"classification": ["Tuft"]}, "Tuft"),
        ({"classification": '["Tuft", "sclerotic"]'}, "Tuft: sclerotic"),
        ({"classification": "[Tuft"}, "[Tuft"),
        ({"classification": "{'name': 'Tuft', 'color': array([1, 2, 3])}"}, "Tuft"),
        ({"classification": '"{\\"name\\": \\"Tuft\\"}"'}, "Tuft"),
        ({"Classification": {"name": "Tuft"}}, "Tuft"),
        ({"CLASS": "Tuft"}, "Tuft"),
        ({"class_name": "Tuft"}, "Tuft"),
        ({"class": 0}, "0"),
        ({"classification": {}, "class": "Tuft"}, "Tuft"),
        ({"classification": {"name": None}}, "Unclassified"),
        ({"classification": "None"}, "Unclassified"),
        ({"label": {"value": "Tuft"}}, "Tuft"),
        ({"type": "Tuft", "name": "7"}, "Tuft"),
        ({"objectType": "annotation", "name": "7"}, "Unclassified"),
        ({"classification": float("nan")}, "Unclassified"),
        ({}, "Unclassified"),
    ],
)
def test_labels(read, properties, label):
    assert [a.label for a in read([feature("Polygon", [SQUARE], **properties)])] == [label]


@pytest.mark.parametrize(
    "item",
    [
        feature("Polygon", [SQUARE], objectType="tmaCore", isMissing=False),
        feature("Polygon", [SQUARE], objectType="tile", classification={"name": "Tissue"}),
        feature("Polygon", [SQUARE], object_type="tile"),
        {**feature("Polygon", [SQUARE]), "id": "TMACoreObject"},
        {**feature("Polygon", [SQUARE]), "id": "PathTileObject"},
        None,
        {"type": "Feature", "properties": {}},
    ],
)
def test_what_nobody_drew_around_an_object_is_not_used(read, item):
    found = read([feature("Polygon", [SQUARE]), item])
    assert (len(found), found.num_dropped) == (1, 1)
    with pytest.raises(UserError, match="none of the 2 items"):
        read([item, feature("Point", [1, 2])])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda geometry, _: geometry,
        lambda geometry, _: {"type": "GeometryCollection", "geometries": [geometry]},
        lambda _, collection: {"type": "FeatureCollection", "features": [collection]},
        lambda _, collection: [collection],
        lambda _, collection: f"{json.dumps(collection)}\n{json.dumps({**collection, 'features': []})}\n",
    ],
    ids=["geometry", "geometries", "nested", "list of collections", "lines"],
)
def test_collections_in_collections_and_bare_geometries(read, wrap):
    one = feature("Polygon", [SQUARE])
    assert len(read(wrap(one["geometry"], {"type": "FeatureCollection", "features": [one]}))) == 1


def test_numbers_as_text_and_with_a_decimal_comma(read):
    ring = [[f"{x},50", str(y)] for x, y in SQUARE]
    assert read([feature("Polygon", [ring])])[0].polygon.bounds == (0.5, 0, 10.5, 10)


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


def test_points_lines_and_outlines_without_area_are_counted(read):
    others = [
        feature("Point", [1, 2]),
        feature("LineString", [[0, 0], [5, 5]]),
        feature("Polygon", [[[0, 0], [5, 5], [0, 0]]]),
        feature("Polygon", [[[0, 0], [5, 5], [9, 9], [0, 0]]]),
        feature("Polygon", []),
        {"type": "Feature", "geometry": None, "properties": None},
    ]
    found = read([*others, feature("Polygon", [SQUARE])])
    assert (len(found), found.num_dropped, found.num_repaired) == (1, 6, 0)
    with pytest.raises(UserError, match="none of the 6 items of this GeoJSON is an object: "):
        read(others)


def test_what_qupath_writes(read, summary):
    """Its shapes: rectangles and ellipses are polygons, unions are multi-polygons, cells have a nucleus."""
    ellipse = [[20, 15], [16.46, 16.46], [15, 20], [16.46, 23.54], [20, 25], [23.54, 23.54], [25, 20], [23.54, 16.46]]
    cell = {**feature("Polygon", [SQUARE]), "nucleusGeometry": {"type": "Polygon", "coordinates": [HOLE]}}
    collection = {"type": "GeometryCollection", "geometries": [feature("Polygon", [SQUARE])["geometry"]] * 2}
    found = read(
        {
            "type": "FeatureCollection",
            "features": [
                feature("Polygon", [[*ellipse, ellipse[0]]], classification={"name": "Tuft"}, isLocked=True),
                {**cell, "id": "PathCellObject"},
                {"type": "Feature", "geometry": collection, "properties": {"objectType": "annotation"}},
                feature("MultiPolygon", [[SQUARE, HOLE], [shifted(SQUARE, 50)]], name="union"),
            ],
        }
    )
    square = ("Unclassified", (0, 0, 10, 10))
    assert summary(found) == [
        ("Tuft", (15, 15, 25, 25), 70.8),
        (*square, 100),
        (*square, 100),
        (*square, 100),
        (*square, 96),
        ("Unclassified", (50, 0, 60, 10), 100),
    ]


def test_gzip_and_other_encodings(read):
    text = json.dumps([feature("Polygon", [SQUARE], classification={"name": "Glomérule"})], ensure_ascii=False)
    for content in (gzip.compress(text.encode()), text.encode("utf-8-sig"), text.encode("utf-16"), "\n " + text):
        assert [a.label for a in read(content)] == ["Glomérule"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"type": "FeatureCollection", "features": [{"type": "Fea', "damaged JSON"),
        ('{"type": "FeatureCollection"}', "without a list of features"),
        ({"type": "FeatureCollection", "features": [], "objects": [feature("Polygon", [SQUARE])]}, "item of objects 1"),
        ("[" * 100_000 + '"Feature"', "damaged JSON"),
        ([feature("Circle", SQUARE)], "unknown geometry 'Circle'"),
        ([feature("Polygon", [SQUARE]), feature("Polygon", 7)], "damaged GeoJSON, item 2"),
        ([feature("Polygon", [SQUARE]), "x"], "damaged GeoJSON, item 2"),
        ([feature("Polygon", [[[0, 0], ["a", 1], [1, 1]]])], "damaged GeoJSON, item 1"),
        ([feature("Polygon", [[[0, 0], [float("nan"), 1], [1, 1]]])], "not a finite number"),
        ([feature("Polygon", [[[0, 0], [float("inf"), 1], [1, 1]]])], "not a finite number"),
        ([feature("Polygon", [[[0, 0], [1e12, 1], [1, 1]]])], "beyond any slide"),
        ([feature("Polygon", [[[0, 0], [10**400, 1], [1, 1]]])], "too large"),
        ([{"type": "Feature", "properties": {}}], "none of the 1 items .* feature without geometry 1"),
    ],
)
def test_bad_files_are_one_clear_line_with_the_path(read, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(content)
    assert "annotations.file" in str(caught.value)
    assert "\n" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["Polygon", "Feature", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "geometry", "coordinates", "properties", "classification"]), inner)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.lists(json_values, max_size=3))
def test_garbage_never_ends_in_anything_but_a_user_error(tmp_path_factory, features):
    path = tmp_path_factory.getbasetemp() / "garbage.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with contextlib.suppress(UserError):
        read_annotations(path)


def test_properties_as_text(read):
    item = {**feature("Polygon", [SQUARE]), "properties": "{'classification': {'name': 'Tuft'}}"}
    assert [a.label for a in read([item])] == ["Tuft"]


def test_a_ring_beside_its_outline_is_no_hole_and_is_said(read):
    found = read([feature("Polygon", [SQUARE, HOLE, shifted(SQUARE, 50)])])
    assert (found[0].polygon.area, found.unused) == (96, {"hole outside of its outline": 1})
