from __future__ import annotations

import numpy as np

from mhkd.deploy.parity import compare
from mhkd.structures import SlideDetections


def found(*rows):
    table = np.array(rows, dtype=float).reshape(-1, 6)
    return SlideDetections(table[:, :4], table[:, 4], table[:, 5], ("a", "b"))


def test_the_order_does_not_matter_and_the_largest_difference_counts():
    one = found((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 0))
    other = found((50, 50, 60, 60.5, 0.8, 0), (0, 0, 10, 10, 0.7, 0))
    parity = compare([(one, other)])
    assert (parity.matched, parity.unmatched) == (2, 0)
    assert parity.box_px == 0.5
    assert abs(parity.score - 0.2) < 1e-9
    assert not parity.within()
    assert parity.within(box_px=0.5, score=0.21)


def test_what_has_no_partner_of_its_class_is_counted():
    parity = compare([(found((0, 0, 10, 10, 0.9, 0)), found((0, 0, 10, 10, 0.6, 1))), (found(), found())])
    assert (parity.matched, parity.unmatched, parity.unmatched_score) == (0, 2, 0.9)
    assert not parity.within(1e9, 1e9)


def test_equal_detections_agree():
    same = found((0, 0, 10, 10, 0.9, 0), (5, 0, 15, 10, 0.9, 0))
    assert compare([(same, same)]).within(0, 0)
