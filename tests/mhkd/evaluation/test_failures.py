"""Planted errors: each is found, called what it is, and the worst of each kind comes first."""

from __future__ import annotations

import numpy as np
import pytest

from mhkd.evaluation.failures import FALSE, KINDS, LOOSE, MISSED, list_failures
from mhkd.evaluation.metrics import SlideMetrics
from mhkd.evaluation.scored_slide import GroundTruth, ScoredSlide
from mhkd.structures import SlideDetections

NAMES = ("glomerulus", "scar")


def box(x, y=0.0, width=100.0, height=100.0):
    return [x, y, x + width, y + height]


def slide_of(name, truth, found):
    """truth: (box, label, ignore) each; found: (box, label, score) each."""
    boxes, labels, ignore = zip(*truth, strict=True) if truth else ((), (), ())
    gt = GroundTruth.of(list(boxes), [NAMES[label] for label in labels], NAMES, ignore)
    boxes, labels, scores = zip(*found, strict=True) if found else ((), (), ())
    return ScoredSlide(name, name, 0.5, 1.0, gt, SlideDetections(boxes, scores, labels, NAMES))


def failures_of(*slides, thresh=0.5):
    return list_failures(SlideMetrics.of(slides, thresh, draws=0))


def causes(failures, kind):
    return [(one.cause, one.score, round(one.iou, 2)) for one in failures if one.kind == kind]


def test_false_detections_surest_first_with_their_cause():
    scored = slide_of(
        "a",
        [(box(0), 0, False), (box(1000), 1, False), (box(2000), 0, False), (box(3000), 0, True)],
        [
            (box(0), 0, 0.9),
            (box(20), 0, 0.8),  # a second one on the first object
            (box(1000), 0, 0.6),  # a scar
            (box(2050), 0, 0.7),  # a third of the union: too loose
            (box(5000), 0, 0.99),
            (box(3000), 0, 0.95),  # to be ignored: no failure
            (box(6000), 0, 0.4),  # below the threshold: none either
        ],
    )
    assert causes(failures_of(scored), FALSE) == [
        ("nothing there", 0.99, 0.0),
        ("double", 0.8, 0.67),
        ("too loose", 0.7, 0.33),
        ("other class", 0.6, 0.0),
    ]


def test_missed_objects_the_least_seen_and_largest_first_with_their_cause():
    scored = slide_of(
        "a",
        [
            (box(0), 0, False),  # weakly found
            (box(1000), 0, False),  # not at all
            (box(2000, width=300, height=300), 0, False),  # not at all, and large
            (box(3000), 1, False),  # taken for a glomerulus
            (box(4000), 0, False),  # too loosely
            (box(5000), 0, True),  # need not be found
            (box(6000), 0, False),
            (box(6030), 0, False),  # its only detection goes to its neighbour
        ],
        [
            (box(10), 0, 0.3),
            (box(3000), 0, 0.9),
            (box(4060), 0, 0.9),
            (box(6010), 0, 0.9),
        ],
    )
    failures = failures_of(scored)
    assert causes(failures, MISSED) == [
        ("not seen", None, 0.0),
        ("not seen", None, 0.0),
        ("other class", None, 0.0),
        ("too loose", None, 0.25),
        ("shared", None, 0.67),
        ("too weak", 0.3, 0.0),
    ]
    missed = [one for one in failures if one.kind == MISSED]
    assert [one.diameter_um for one in missed[:2]] == pytest.approx([150, 50])
    np.testing.assert_array_equal(missed[-1].weak_l0, box(10))
    np.testing.assert_array_equal(missed[-1].box_l0, box(0))  # the object, not what was found


def test_boxes_that_fit_badly_the_loosest_first():
    scored = slide_of(
        "a",
        [(box(x), 0, False) for x in (0, 1000, 2000)],
        [(box(20), 0, 0.9), (box(1030), 0, 0.8), (box(2001), 0, 0.7)],
    )
    assert causes(failures_of(scored), LOOSE) == [("", 0.8, 0.54), ("", 0.9, 0.67)]


def test_equal_failures_are_ordered_by_slide_and_place():
    found = [(box(900, 50), 0, 0.9), (box(100, 50), 0, 0.9), (box(500, 20), 0, 0.9)]
    failures = failures_of(slide_of("b", [], found), slide_of("a", [], found[::-1]))
    places = [(one.slide.name, one.box_l0[0]) for one in failures]
    assert places == [(name, x) for name in "ab" for x in (500, 100, 900)]


def test_a_perfect_detector_has_none():
    truth = [(box(0), 0, False), (box(1000), 1, False)]
    assert failures_of(slide_of("a", truth, [(one, label, 0.9) for one, label, _ in truth])) == []
    assert failures_of(slide_of("a", [], [])) == []


@pytest.mark.parametrize("thresh", [0.1, 0.5, 0.85])
def test_there_are_as_many_as_the_figures_count(thresh):
    rng = np.random.default_rng(0)
    slides = []
    for name in "abc":
        boxes = [box(*xy) for xy in rng.uniform(0, 1500, (30, 2))]
        seen = [(np.add(one, rng.normal(0, 15, 4)), 0, rng.uniform(0, 1)) for one in boxes[:25]]
        slides.append(slide_of(name, [(one, 0, i % 7 == 0) for i, one in enumerate(boxes)], seen))
    metrics = SlideMetrics.of(slides, thresh, draws=0)
    counts, kinds = metrics.result, [one.kind for one in list_failures(metrics)]
    assert kinds.count(FALSE) == counts["false_positives"]
    assert kinds.count(MISSED) == counts["num_objects"] - counts["true_positives"]
    assert kinds == sorted(kinds, key=KINDS.index)
