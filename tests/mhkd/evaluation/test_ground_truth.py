from __future__ import annotations

import pytest

from mhkd.evaluation.ground_truth import GroundTruth
from preprocess.base.errors import UserError

BOXES = [(0, 0, 4, 4), (5, 5, 9, 9)]


def test_classes_may_be_written_in_another_case():
    assert GroundTruth.of(BOXES, ["glomerulus", "GLOMERULUS"], ["Glomerulus"]).labels.tolist() == [0, 0]


def test_a_model_that_tells_cases_apart_is_taken_at_its_word():
    assert GroundTruth.of(BOXES, ["GS", "gs"], ["gs", "GS"]).labels.tolist() == [1, 0]


def test_a_class_that_the_model_does_not_know_is_named_with_the_way_out():
    with pytest.raises(UserError, match=r"annotated as 'glom', but the model knows 'Glomerulus'") as error:
        GroundTruth.of(BOXES, ["glom", "Glomerulus"], ["Glomerulus"])
    assert "--class-map" in error.value.remedy
