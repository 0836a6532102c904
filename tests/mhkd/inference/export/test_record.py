from __future__ import annotations

import numpy as np

from mhkd.inference.export.record import quantized
from tests.records import detections


def test_numbers_are_rounded_once_and_sorted_as_rounded():
    # The second scores more, but not after rounding; then the upper one comes first.
    found = quantized(detections([(1.006, 1, 9, 9), (1, 5, 9, 9.004)], [0.90001, 0.90002], [0, 1]))
    np.testing.assert_array_equal(found.boxes_l0, [[1.01, 1, 9, 9], [1, 5, 9, 9]])
    np.testing.assert_array_equal(found.scores, [0.9, 0.9])
    again = quantized(found)
    np.testing.assert_array_equal(again.boxes_l0, found.boxes_l0)
