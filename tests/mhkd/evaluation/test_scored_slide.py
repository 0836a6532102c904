"""True boxes lie in the frame of the detections, also on a slide of which a part was scanned."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mhkd.evaluation.scored_slide import truth_of
from preprocess.annotations.class_map import ClassMap
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from tests.blobs import boxes_of, write_annotations

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
    truth = truth_of(slide, annotation, NAMES, origin="bounds")
    np.testing.assert_allclose(truth.boxes_l0, boxes_of(DISCS) + np.tile(corner, 2), atol=1e-6)
    with pytest.raises(UserError, match="not stated where its annotations count from"):
        truth_of(slide, annotation, NAMES)


def test_annotations_of_the_whole_slide_stay_where_they_are(annotation):
    for origin in (None, "slide", "bounds"):
        np.testing.assert_allclose(
            truth_of(slide_with((0, 0)), annotation, NAMES, origin=origin).boxes_l0, boxes_of(DISCS)
        )
    scanned = slide_with((300.0, 200.0))
    np.testing.assert_allclose(truth_of(scanned, annotation, NAMES, origin="slide").boxes_l0, boxes_of(DISCS))


def test_an_object_mostly_outside_of_what_was_scanned_need_not_be_found(annotation):
    truth = truth_of(slide_with((500.0 + 30, 0.0)), annotation, NAMES, origin="slide")
    assert truth.ignore.tolist() == [True, False]


def test_a_class_that_the_model_does_not_know_names_the_file(annotation):
    with pytest.raises(UserError, match=r"s\.geojson.*'glomerulus', but the model knows 'Lesion'"):
        truth_of(slide_with((0, 0)), annotation, ("Lesion",))
    mapped = truth_of(slide_with((0, 0)), annotation, ("Lesion",), classes=ClassMap.of({"*": "Lesion"}))
    assert len(mapped) == 2
