"""The rules for comparison, by hand: two tiles side by side that share x from 150 to 200."""

from __future__ import annotations

import numpy as np
import pytest

from mhkd.inference.plain_rules import centre_ownership, fuse_weighted, merge_greedily, suppress_hard, suppress_softly
from mhkd.inference.tile_boxes import TileBoxes

RULES = (suppress_hard, merge_greedily, fuse_weighted, centre_ownership, suppress_softly)
WHOLE, CUT = [170, 50, 230, 100], [170, 50, 200, 100]


def seen(*rows):
    """From rows of x0, y0, x1, y1, score, tile; best first."""
    table = np.array(rows, dtype=float).reshape(-1, 6)
    tiles = np.array([[0, 0, 200, 200], [150, 0, 350, 200]], dtype=float)
    return TileBoxes(table[:, :4], table[:, 4], table[:, 5].astype(int), tiles, (0, 0, 350, 200))


def merged(rule, *rows):
    boxes, scores = rule(seen(*rows))
    return boxes.tolist(), scores.tolist()


@pytest.mark.parametrize("rule", RULES)
def test_nothing_and_one_box(rule):
    assert merged(rule) == ([], [])
    assert merged(rule, [*WHOLE, 0.9, 1]) == ([WHOLE], [0.9])


def test_nms_keeps_the_better_of_two_and_a_piece_of_half_the_size():
    assert merged(suppress_hard, [*WHOLE, 0.9, 1], [171, 50, 231, 100, 0.8, 0]) == ([WHOLE], [0.9])
    assert merged(suppress_hard, [*WHOLE, 0.9, 1], [170, 50, 195, 100, 0.8, 0])[1] == [0.9, 0.8]


def test_merging_grows_the_best_box_and_eats_what_lies_inside():
    assert merged(merge_greedily, [*CUT, 0.9, 0], [*WHOLE, 0.8, 1]) == ([WHOLE], [0.9])
    assert len(merged(merge_greedily, [*WHOLE, 0.9, 1], [180, 60, 190, 70, 0.8, 1])[0]) == 1
    # The last meets the second, not the best: it stays, since growing is not contagious.
    chain = ([100, 50, 140, 100, 0.9, 0], [118, 50, 158, 100, 0.8, 0], [137, 50, 177, 100, 0.7, 0])
    assert merged(merge_greedily, *chain) == ([[100, 50, 158, 100], [137, 50, 177, 100]], [0.9, 0.7])


def test_fusion_averages_by_score():
    boxes, scores = merged(fuse_weighted, [100, 50, 160, 100, 0.75, 0], [108, 50, 168, 100, 0.25, 1])
    np.testing.assert_allclose(boxes, [[102, 50, 162, 100]])
    assert scores == [0.5]
    assert len(merged(fuse_weighted, [*WHOLE, 0.9, 1], [*CUT, 0.8, 0])[0]) == 2


def test_the_tile_whose_middle_is_nearer_owns_a_box():
    # Middles at x = 100 and 250: the border is at 175.
    assert merged(centre_ownership, [*WHOLE, 0.9, 0], [*WHOLE, 0.8, 1]) == ([WHOLE], [0.8])
    assert merged(centre_ownership, [140, 50, 200, 100, 0.9, 0], [150, 50, 190, 100, 0.8, 1])[1] == [0.9]


def test_soft_suppression_lowers_a_duplicate_and_leaves_the_rest():
    boxes, scores = merged(suppress_softly, [*WHOLE, 0.9, 1], [*WHOLE, 0.8, 0], [20, 20, 60, 60, 0.7, 0])
    assert boxes == [WHOLE, WHOLE, [20, 20, 60, 60]]
    np.testing.assert_allclose(scores, [0.9, 0.8 * np.exp(-2), 0.7])
    assert len(merged(suppress_softly, [*WHOLE, 0.9, 1], [*WHOLE, 0.3, 0])[0]) == 1
