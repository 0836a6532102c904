from __future__ import annotations

import unicodedata

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.annotations import Annotation
from preprocess.annotations.class_map import ALL, ClassMap, spread_ignored
from preprocess.base.errors import UserError


def drawn(*labels):
    return [Annotation(shapely.box(i, 0, i + 1, 1), label) for i, label in enumerate(labels)]


def test_a_yaml_file_of_names_ignore_and_drop(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text("gs: Glomerulus\n1: Glomerulus\nTissue: Drop\nFold: IGNORE\n")
    mapped = ClassMap.read(path).apply(drawn("gs", "Tissue", "1", "Fold", "Tubule"))
    assert [(a.label, a.ignore) for a in mapped.annotations] == [
        ("Glomerulus", False),
        ("Glomerulus", False),
        (ALL, True),
        ("Tubule", False),
    ]
    assert (mapped.dropped, mapped.unmapped) == ({"Tissue": 1}, {"Tubule": 1})


def test_a_star_stands_for_all_others():
    mapped = ClassMap.of({"a": "A", "*": "drop"}).apply(drawn("a", "b", "c", "c"))
    assert [a.label for a in mapped.annotations] == ["A"]
    assert (mapped.dropped, mapped.unmapped) == ({"b": 1, "c": 2}, {})


@pytest.mark.parametrize(
    ("labels", "merged", "expected"),
    [
        (None, None, ["a", "b"]),
        (["a"], None, ["a"]),
        (None, "X", ["X", "X"]),
        (["b"], "X", ["X"]),
    ],
)
def test_labels_and_a_merged_label_are_a_map_too(labels, merged, expected):
    mapped = ClassMap.choose(labels, merged).apply(drawn("a", "b"))
    assert [a.label for a in mapped.annotations] == expected
    assert mapped.unmapped == {}
    assert sum(mapped.dropped.values()) == 2 - len(expected)


def test_qupaths_ignored_classes_are_no_objects_unless_the_map_says_so():
    labels = ("Ignore*", "Region*", "Glomerulus")
    for classes in (ClassMap(), ClassMap.choose(["Glomerulus"], None), ClassMap.choose(None, "Glomerulus")):
        mapped = classes.apply(drawn(*labels))
        assert [(a.label, a.ignore) for a in mapped.annotations] == [(ALL, True), ("Glomerulus", False)]
        assert (mapped.dropped, mapped.unmapped) == ({"Region*": 1}, {})
    mapped = ClassMap.of({"Region*": "Cortex", "Ignore*": "drop"}).apply(drawn(*labels))
    assert [a.label for a in mapped.annotations] == ["Cortex", "Glomerulus"]


def test_what_the_author_marked_stays_to_be_ignored():
    (found,) = ClassMap.of({"a": "A"}).apply([Annotation(shapely.box(0, 0, 1, 1), "a", ignore=True)]).annotations
    assert (found.label, found.ignore) == ("A", True)


def test_a_region_to_ignore_is_one_for_every_class():
    assert spread_ignored(ALL, {"b", "a"}) == ["a", "b"]
    assert spread_ignored("a", {"b", "a"}) == ["a"]


@given(
    st.sampled_from(
        ["No", "yes", "on", "null", "~", "NA", "nan", "1", "007", "1e5", "0x1F", "12:30", "2020-01-01", "TRUE"]
    )
)
def test_whatever_a_class_is_called_its_name_stays_text(tmp_path_factory, name):
    path = tmp_path_factory.mktemp("map") / "classes.yaml"
    path.write_text(f"{name}: {name} mapped\n'*': drop\n")
    (found,) = ClassMap.read(path).apply(drawn(name, "other")).annotations
    assert found.label == f"{name} mapped"
    path.write_text(f"other: {name}\n")
    assert [a.label for a in ClassMap.read(path).apply(drawn("other")).annotations] == [name]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_map_in_any_encoding_and_composed_or_not(tmp_path, encoding):
    path = tmp_path / "classes.yaml"
    path.write_bytes("Körperchen: Glomerulus\n".encode(encoding))
    mapped = ClassMap.read(path).apply(drawn(unicodedata.normalize("NFD", "Körperchen")))
    assert [a.label for a in mapped.annotations] == ["Glomerulus"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "without entries"),
        ("- a\n- b\n", "without entries"),
        ("a: [b]\n", r"'a' is mapped to \['b'\]"),
        ("a:\n", "'a' is mapped to ''"),
        ("a: {b: c}\n", "line 1 is no pair"),
        ("a: b\nc: d\na: e\n", "line 3 has 'a' again"),
        ("a: {\n", "no readable class map"),
        ("a: !!python/object:os.system x\n", "line 1 is no pair"),
        (b"\xff\xfea", "no readable class map"),
    ],
)
def test_bad_maps_are_one_clear_line(tmp_path, content, message):
    path = tmp_path / "classes.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        ClassMap.read(path)
    assert str(caught.value).startswith(str(path))
    with pytest.raises(UserError, match="no readable class map"):
        ClassMap.read(tmp_path / "none.yaml")


names = st.sampled_from(["a", "b", "c", "ignore", "drop", "*"])


@settings(deadline=None)
@given(st.dictionaries(names, names), st.lists(names))
def test_nothing_is_lost_without_being_counted(entries, labels):
    mapped = ClassMap.of(entries).apply(drawn(*labels))
    assert len(mapped.annotations) + sum(mapped.dropped.values()) == len(labels)
    assert set(mapped.unmapped) <= set(labels) - set(entries)
