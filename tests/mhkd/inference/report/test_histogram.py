from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhkd.inference.report.histogram import DIAMETER_EDGES_UM, bars, count_bins, tallest_bin
from mhkd.structures import SlideDetections

NAMES = ("a", "b")
values_and_labels = st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 1)), max_size=60)


def detections(labels) -> SlideDetections:
    return SlideDetections(np.zeros((len(labels), 4)), np.zeros(len(labels)), np.array(labels, int), NAMES)


@given(values_and_labels)
def test_every_detection_is_in_one_bin_of_its_class(rows):
    values, labels = [value for value, _ in rows], [label for _, label in rows]
    histogram = count_bins(values, detections(labels), DIAMETER_EDGES_UM)
    for label, name in enumerate(NAMES):
        assert sum(histogram["by_class"][name]) + histogram["above"][name] == labels.count(label)


@given(values_and_labels)
def test_bars_are_as_tall_as_they_count(rows):
    values, labels = [value for value, _ in rows], [label for _, label in rows]
    histogram = count_bins(values, detections(labels), DIAMETER_EDGES_UM)
    drawn = bars(histogram)
    counted = [int(bar.title.split(": ")[1].split()[0]) for bar in drawn]
    assert sum(counted) == len(rows)
    for bar, count in zip(drawn, counted, strict=True):
        assert bar.height == pytest.approx(100 * count / tallest_bin(histogram), abs=0.01)
        assert 0 <= bar.y <= bar.y + bar.height <= 100.02
        assert 0 <= bar.x <= bar.x + bar.width <= 1000


def test_edges_belong_to_the_bin_above_but_for_the_last():
    histogram = count_bins([20, 39.99, 40, 400, 400.01], detections([0] * 5), DIAMETER_EDGES_UM)
    counts = histogram["by_class"]["a"]
    assert (counts[1], counts[2], counts[-1], histogram["above"]["a"]) == (2, 1, 1, 1)


def test_classes_stand_on_each_other():
    low, high = bars(count_bins([30, 30, 30], detections([0, 0, 1]), DIAMETER_EDGES_UM), " um")
    assert low.title == "20 to 40 um: 2 a"
    assert high.title == "20 to 40 um: 1 b"
    assert high.y + high.height == pytest.approx(low.y, abs=0.02)
    assert low.color != high.color


def test_nothing_has_no_bars():
    histogram = count_bins([], detections([]), DIAMETER_EDGES_UM)
    assert bars(histogram) == []
    assert tallest_bin(histogram) == 0
