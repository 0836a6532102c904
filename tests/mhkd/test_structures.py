from __future__ import annotations

import numpy as np
import pytest

from mhkd.structures import SlideDetections

NAMES = ("glomerulus", "tubule")


def detections(boxes, scores, labels=None, names=NAMES):
    return SlideDetections(np.array(boxes), np.array(scores), np.array(labels or [0] * len(scores)), names)


def test_sort_is_by_score_then_y_then_x():
    boxes = [[5, 9, 6, 10], [7, 2, 8, 3], [1, 2, 2, 3], [0, 0, 1, 1]]
    ordered = detections(boxes, [0.5, 0.5, 0.5, 0.9]).sort()
    assert ordered.boxes_l0.tolist() == [[0, 0, 1, 1], [1, 2, 2, 3], [7, 2, 8, 3], [5, 9, 6, 10]]


def test_select_takes_a_mask_or_indices():
    all_of = detections([[0, 0, 1, 1], [2, 2, 3, 3]], [0.2, 0.8], [0, 1])
    assert all_of.select(all_of.scores > 0.5).labels.tolist() == [1]
    assert all_of.select(np.array([1, 0])).scores.tolist() == [0.8, 0.2]


def test_concat_keeps_order_and_refuses_other_classes():
    one, other = detections([[0, 0, 1, 1]], [0.2]), detections([[2, 2, 3, 3]], [0.8])
    assert SlideDetections.concat([one, SlideDetections.empty(NAMES), other]).scores.tolist() == [0.2, 0.8]
    with pytest.raises(ValueError, match="different classes"):
        SlideDetections.concat([one, SlideDetections.empty(("cell",))])
    with pytest.raises(ValueError, match="nothing"):
        SlideDetections.concat([])


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "reason"),
    [
        ([[0, 0, 1, 1]], [0.5, 0.5], [0, 0], "do not go together"),
        ([[0, 0, np.nan, 1]], [0.5], [0], "finite"),
        ([[2, 0, 1, 1]], [0.5], [0], "ends before it begins"),
        ([[0, 0, 1, 1]], [0.5], [2], "labels must be"),
    ],
)
def test_what_makes_no_sense_is_refused(boxes, scores, labels, reason):
    with pytest.raises(ValueError, match=reason):
        detections(boxes, scores, labels)
