from __future__ import annotations

import numpy as np
import pytest

from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.evaluation.matching import match_all
from mhkd.evaluation.scored_slide import SlideCase
from mhkd.evaluation.sizes import SizeBins, equivalent_diameter_um
from mhkd.structures import SlideDetections

NAMES = ("glomerulus",)


def square(x, side):
    return [x, 0, x + side, side]


def test_the_diameter_is_that_of_the_ellipse_in_the_box():
    boxes = np.array([[0, 0, 200, 200], [10, 0, 110, 400]], float)
    np.testing.assert_allclose(equivalent_diameter_um(boxes, 0.5), [100, 100])
    ellipse = np.pi / 4 * 100 * 400
    assert equivalent_diameter_um(boxes[1:], 1.0)[0] == pytest.approx(2 * np.sqrt(ellipse / np.pi))


def test_hits_count_by_the_true_size_and_false_ones_by_their_own():
    # At 0.5 um/px: 80, 120 and 220 um. The detection of the second is 160 um large; a wrong one is 90 um.
    truth = GroundTruth.of([square(0, 160), square(1000, 240), square(2000, 440)], ["glomerulus"] * 3, NAMES)
    boxes = np.array([square(0, 160), square(1000, 320), square(5000, 180), square(2000, 440)], float)
    found = SlideDetections(boxes, np.array([0.9, 0.8, 0.7, 0.2]), np.zeros(4), NAMES)
    case = SlideCase("s", "p", 0.5, 1.0, truth, found)
    bins = SizeBins.of([case], match_all({"s": truth}, {"s": found}), 0.5)
    assert bins.names == ["<100", "100-150", "150-200", ">=200"]
    assert bins.num_objects[:, 0].tolist() == [1, 1, 0, 1]
    assert bins.right[:, 0].tolist() == [1, 1, 0, 0]
    assert bins.wrong[:, 0].tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(bins.recall(np.ones((1, 1))), [[1, 1, np.nan, 0]])
    np.testing.assert_allclose(bins.f1(np.ones((1, 1))), [[2 / 3, 1, np.nan, 0]])


def test_objects_to_be_ignored_are_in_no_bin():
    truth = GroundTruth.of([square(0, 160)], ["glomerulus"], NAMES, [True])
    found = SlideDetections(np.array([square(0, 160)], float), np.array([0.9]), np.zeros(1), NAMES)
    bins = SizeBins.of([SlideCase("s", "p", 0.5, 1.0, truth, found)], match_all({"s": truth}, {"s": found}), 0.5)
    assert bins.num_objects.sum() == bins.right.sum() == bins.wrong.sum() == 0
