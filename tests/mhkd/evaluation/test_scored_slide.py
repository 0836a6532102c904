from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mhkd.evaluation.scored_slide import GroundTruth, read_ground_truth
from preprocess.annotations.class_map import ClassMap
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from tests.blobs import boxes_of, write_annotations

BOXES = [(0, 0, 4, 4), (5, 5, 9, 9)]


def test_classes_may_be_written_in_another_case():
    assert GroundTruth.of(BOXES, ["glomerulus", "GLOMERULUS"], ["Glomerulus"]).labels.tolist() == [0, 0]


def test_a_model_that_tells_cases_apart_is_taken_at_its_word():
    assert GroundTruth.of(BOXES, ["GS", "gs"], ["gs", "GS"]).labels.tolist() == [1, 0]


def test_a_class_that_the_model_does_not_know_is_named_with_the_way_out():
    with pytest.raises(UserError, match=r"annotated as 'glom', but the model knows 'Glomerulus'") as error:
        GroundTruth.of(BOXES, ["glom", "Glomerulus"], ["Glomerulus"])
    assert "--class-map" in error.value.remedy


NAMES = ("glomerulus",)
DISCS = ((500, 450, 90), (1020, 500, 100))


def slide_with(corner):
    """What reading annotations asks of a slide; what was scanned of it starts at ``corner``."""
    region = Region(*corner, 2000, 1500)
    return SimpleNamespace(name="s", path="s.mrxs", size=Size(8000, 6000), region=region)


@pytest.fixture
def annotation(tmp_path):
    return write_annotations(tmp_path / "s.geojson", DISCS)


def test_annotations_from_the_corner_of_the_bounds_are_moved_to_where_detections_lie(annotation):
    corner = (3000.0, 700.0)
    slide = slide_with(corner)
    truth = read_ground_truth(slide, annotation, NAMES, origin="bounds")
    np.testing.assert_allclose(truth.boxes_l0, boxes_of(DISCS) + np.tile(corner, 2), atol=1e-6)
    with pytest.raises(UserError, match="not stated where its annotations count from"):
        read_ground_truth(slide, annotation, NAMES)


def test_annotations_of_the_whole_slide_stay_where_they_are(annotation):
    for origin in (None, "slide", "bounds"):
        np.testing.assert_allclose(
            read_ground_truth(slide_with((0, 0)), annotation, NAMES, origin=origin).boxes_l0, boxes_of(DISCS)
        )
    scanned = slide_with((300.0, 200.0))
    np.testing.assert_allclose(read_ground_truth(scanned, annotation, NAMES, origin="slide").boxes_l0, boxes_of(DISCS))


def test_what_is_not_used_is_noted(annotation, capsys):
    content = json.loads(annotation.read_text())
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}
    content["features"].append(point)
    annotation.write_text(json.dumps(content))
    assert len(read_ground_truth(slide_with((0, 0)), annotation, NAMES)) == len(DISCS)
    assert capsys.readouterr().err == f"note: {annotation}: items that are no objects: Point 1\n"


def test_an_object_mostly_outside_of_what_was_scanned_need_not_be_found(annotation):
    truth = read_ground_truth(slide_with((500.0 + 30, 0.0)), annotation, NAMES, origin="slide")
    assert truth.ignore.tolist() == [True, False]


def test_a_class_that_the_model_does_not_know_names_the_file(annotation):
    with pytest.raises(UserError, match=r"s\.geojson.*'glomerulus', but the model knows 'Lesion'"):
        read_ground_truth(slide_with((0, 0)), annotation, ("Lesion",))
    mapped = read_ground_truth(slide_with((0, 0)), annotation, ("Lesion",), classes=ClassMap.of({"*": "Lesion"}))
    assert len(mapped) == 2
