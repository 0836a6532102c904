from __future__ import annotations

import numpy as np
import pytest

from mhkd.evaluation.classes import MISSED, NOTHING, confusion, of_class
from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.evaluation.metrics import SlideFigures
from mhkd.evaluation.scored_slide import SlideCase
from mhkd.structures import SlideDetections

NAMES = ("gl", "gs")


def boxes(*places):
    """Squares of 100 px, one at each 1000 px place; 0.5 places away they miss."""
    return np.array([[1000 * x, 0, 1000 * x + 100, 100] for x in places], dtype=float).reshape(-1, 4)


def case(true, found, name="a", ignore=None):
    """A slide with ``true`` {place: class} and ``found`` [(place, class, score)]."""
    truth = GroundTruth.of(boxes(*true), list(true.values()), NAMES, ignore)
    places, classes, scores = zip(*found, strict=True) if found else ((), (), ())
    labels = [NAMES.index(one) for one in classes]
    return SlideCase(name, name, 0.5, 1.0, truth, SlideDetections(boxes(*places), scores, labels, NAMES))


# gl: one right, one called gs, one missed. gs: one right. Beside them a stray gl, and a second opinion on a gl.
MIXED = case(
    {0: "gl", 1: "gl", 2: "gl", 3: "gs"},
    [(0, "gl", 0.9), (0, "gs", 0.6), (1, "gs", 0.8), (3, "gs", 0.7), (8, "gl", 0.75), (2, "gl", 0.1)],
)


def test_each_class_is_scored_as_if_it_were_the_only_one():
    result = SlideFigures.of([MIXED], 0.5).result["by_class"]
    counted = {k: (v["num_objects"], v["true_positives"], v["false_positives"]) for k, v in result.items()}
    assert counted == {"gl": (3, 1, 1), "gs": (1, 1, 2)}
    assert result["gl"]["F1"] == pytest.approx(100 * 2 / 5)
    # gs: the object is the second of three, and all recall comes with a precision of one half.
    assert result["gs"]["AP50"] == pytest.approx(50)
    # gl: at 0.9 right, at 0.75 wrong, at 0.1 right: 34 of 101 recalls with precision 1, 33 with 2/3, 34 with 0.
    assert result["gl"]["AP50"] == pytest.approx(100 * (34 + 33 * 2 / 3) / 101)


def test_the_ap_of_all_classes_is_their_mean():
    result = SlideFigures.of([MIXED], 0.5).result
    assert result["AP50"] == pytest.approx(np.mean([one["AP50"] for one in result["by_class"].values()]))


def test_a_class_that_no_slide_has_is_there_without_figures():
    result = SlideFigures.of([case({0: "gl"}, [(0, "gl", 0.9)])], 0.5).result["by_class"]["gs"]
    assert (result["num_objects"], result["AP"], result["F1"]) == (0, None, None)


def test_a_class_keeps_what_is_to_be_ignored():
    one = of_class(case({0: "gl", 1: "gs"}, [(1, "gs", 0.9)], ignore=[False, True]), 1)
    assert (len(one.truth), one.truth.ignore.tolist(), len(one.found)) == (1, [True], 1)


def test_which_class_is_taken_for_which():
    assert confusion([MIXED], 0.5) == {
        "gl": {"gl": 1, "gs": 1, MISSED: 1},
        "gs": {"gl": 0, "gs": 1, MISSED: 0},
        NOTHING: {"gl": 1, "gs": 1, MISSED: 0},
    }
    assert confusion([MIXED], 0.05)["gl"] == {"gl": 2, "gs": 1, MISSED: 0}


def test_every_object_and_every_detection_is_counted_once():
    cases = [MIXED, case({}, [(0, "gs", 0.9)], "b"), case({4: "gs"}, [], "c")]
    table = confusion(cases, 0.0)
    assert [sum(table[name].values()) for name in NAMES] == [3, 2]
    assert sum(row[name] for row in table.values() for name in NAMES) == 7


def test_an_object_to_be_ignored_is_neither_missed_nor_wrongly_found():
    table = confusion([case({0: "gl", 1: "gl"}, [(0, "gs", 0.9)], ignore=[True, True])], 0.5)
    assert sum(sum(row.values()) for row in table.values()) == 0
