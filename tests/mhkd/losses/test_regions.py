from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mhkd.losses.regions import inverse_areas
from tests.mhkd.losses import reference


def test_the_smallest_box_on_a_cell_counts() -> None:
    maps = inverse_areas([torch.tensor([[0.0, 0, 4, 2], [1.2, 0.5, 1.8, 1.5]]), torch.zeros(0, 4)], 3, 4)
    # The second box touches two cells, the first eight.
    assert maps[0].tolist() == [[1 / 8, 1 / 2, 1 / 8, 1 / 8], [1 / 8, 1 / 2, 1 / 8, 1 / 8], [0, 0, 0, 0]]
    assert not maps[1].any()


def test_boxes_outside_are_cut_and_tiny_ones_keep_a_cell() -> None:
    (cells,) = inverse_areas([torch.tensor([[-3.0, -3, 1, 1], [2.4, 1.4, 2.4, 1.4], [9.0, 9, 12, 12]])], 2, 3)
    assert cells.tolist() == [[1, 0, 0], [0, 0, 1]]


corner = st.integers(0, 20).map(lambda v: v / 4)


@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=3))
def test_cells_are_those_that_share_an_area(corners: list[tuple[float, ...]]) -> None:
    boxes = [[min(a, c), min(b, d), max(a, c) + 0.25, max(b, d) + 0.25] for a, b, c, d in corners]
    expected = np.zeros((4, 5))
    for box in boxes:
        inside = reference.touched(box, 4, 5)
        for cell in inside:
            expected[cell] = max(expected[cell], 1 / len(inside))
    found = inverse_areas([torch.tensor(boxes).reshape(-1, 4)], 4, 5)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
