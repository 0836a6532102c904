from __future__ import annotations

import pytest

from mhkd.evaluation.annotation_files import annotated, annotated_as
from preprocess.annotations.class_map import AS_ANNOTATED, ClassMap
from preprocess.base.errors import UserError
from preprocess.slides.search import SlideFile


@pytest.fixture
def files(tmp_path):
    (tmp_path / "slides").mkdir()
    names = ("a.svs", "b 1.svs", "c.png")
    for name in names:
        (tmp_path / "slides" / name).write_bytes(b"")
    return [SlideFile(tmp_path / "slides" / name) for name in names]


def fill(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("[]")
    return folder


def names_of(files):
    return [file.annotation and file.annotation.name for file in files]


def test_a_file_is_of_the_only_slide(files, tmp_path):
    folder = fill(tmp_path / "truth", "any.xml")
    assert names_of(annotated(files[:1], folder / "any.xml", tmp_path / "out")) == ["any.xml"]
    with pytest.raises(UserError, match="one annotation file for 3 slides"):
        annotated(files, folder / "any.xml", tmp_path / "out")


def test_a_table_of_run_lengths_is_an_annotation_file(files, tmp_path):
    (tmp_path / "rle.csv").write_text("id,encoding\na,1 5\n")
    assert names_of(annotated(files[:1], tmp_path / "rle.csv", tmp_path / "out")) == ["rle.csv"]


def test_the_files_of_a_folder_are_named_as_the_slides_are(files, tmp_path):
    folder = fill(tmp_path / "truth", "a.svs.geojson", "B 1.XML", "c.json.gz", "a.coco.json", "d.geojson", "notes.txt")
    assert names_of(annotated(files, folder, tmp_path / "out")) == ["a.svs.geojson", "B 1.XML", "c.json.gz"]


def test_a_picture_counts_only_where_there_are_no_outlines_and_is_never_the_slide(files, tmp_path):
    fill(tmp_path / "slides", "a.geojson", "a.png", "b 1.png")
    assert names_of(annotated(files, tmp_path / "slides", tmp_path / "out")) == ["a.geojson", "b 1.png", None]


def test_two_files_for_a_slide_are_refused(files, tmp_path):
    folder = fill(tmp_path / "truth", "a.geojson", "a.xml")
    with pytest.raises(UserError, match=r"a\.geojson and a\.xml are both for a\.svs"):
        annotated(files, folder, tmp_path / "out")


def test_the_rows_of_a_table_are_known_by_path_or_name(files, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b 1.svs").write_bytes(b"")  # a copy elsewhere
    (tmp_path / "slides.csv").write_text(
        "slide,annotation,patient,origin\n"
        "slides/a.svs,a.geojson,P1,\nother/b 1.svs,b.xml,P2,bounds\nslides/c.png,,P3,\n"
    )
    one, two, three = annotated(
        [files[0], SlideFile(files[1].path, patient="own"), files[2]], tmp_path / "slides.csv", "out"
    )
    assert (one.annotation, one.patient) == (tmp_path / "a.geojson", "P1")
    assert (two.annotation.name, two.patient, two.origin) == ("b.xml", "own", "bounds")
    assert three.annotation is None


def test_what_has_no_annotation_for_any_slide_is_refused_at_once(files, tmp_path):
    with pytest.raises(UserError, match="no such annotations"):
        annotated(files, tmp_path / "none", tmp_path / "out")
    with pytest.raises(UserError, match=r"no annotation for any of the 3 slides, such as a\.svs.*a\.geojson"):
        annotated(files, fill(tmp_path / "truth", "x.geojson"), tmp_path / "out")
    (tmp_path / "table.csv").write_text("slide\nslides/a.svs\n")
    with pytest.raises(UserError, match="no annotation for any"):
        annotated(files, tmp_path / "table.csv", tmp_path / "out")


def test_what_was_found_is_no_annotation(files, tmp_path):
    folder = fill(tmp_path / "out", "a.geojson")
    for where in (folder, folder / "a.geojson"):
        with pytest.raises(UserError, match="no annotation"):
            annotated(files[:1], where, folder)


def test_a_class_map_needs_annotations(files, tmp_path):
    (tmp_path / "map.yaml").write_text("gs: Glomerulus\n")
    with pytest.raises(UserError, match="give --evaluate as well"):
        annotated_as(files, None, tmp_path / "map.yaml", "out")
    assert annotated_as(files, None, None, "out") == (files, AS_ANNOTATED)
    folder = fill(tmp_path / "truth", "a.geojson")
    assert annotated_as(files, folder, tmp_path / "map.yaml", "out")[1] == ClassMap.of({"gs": "Glomerulus"})
