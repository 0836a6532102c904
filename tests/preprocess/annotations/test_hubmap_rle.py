from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.annotations import read_annotations
from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from tests.preprocess.annotations.conftest import Frame

FOUR_ROWS = Frame(size=Size(5, 4))


def encode(mask):
    """As Kaggle's own script: pixels counted down the columns, from 1."""
    flat = np.concatenate([[0], mask.T.flatten(), [0]])
    edges = np.nonzero(flat[1:] != flat[:-1])[0] + 1
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges))


def test_runs_count_down_the_columns_from_1(read, summary):
    # Pixels 6, 7 are rows 1, 2 of column 1; 10 to 11 are the same rows of column 2. 20 is the last of all.
    found = read("id,encoding\nother,1 20\nslide,6 2 10 2 20 1\n", FOUR_ROWS)
    assert summary(found) == [("Unclassified", (1, 1, 3, 3), 4), ("Unclassified", (4, 3, 5, 4), 1)]


def test_a_run_may_go_on_in_the_next_column(read, summary):
    assert summary(read("id,encoding\nslide,3 4\n", FOUR_ROWS)) == [
        ("Unclassified", (0, 2, 1, 4), 2),
        ("Unclassified", (1, 0, 2, 2), 2),
    ]


def test_the_columns_of_2022_and_a_slide_without_objects(read):
    assert len(read('id,organ,rle\nslide,"kidney","1 20"\n', FOUR_ROWS)) == 1
    assert len(read("id,encoding\nslide,\n", FOUR_ROWS)) == 0
    assert len(read("Id, Encoding\nslide,1 20\n", FOUR_ROWS)) == 1
    assert len(read("sep=;\r\nID;Encoding;\r\nslide;1 20;\r\n", FOUR_ROWS)) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("slide,20 2", "leaves the 5 x 4 px"),
        ("slide,0 2", "leaves the 5 x 4 px"),
        ("slide,1", "a run without a length"),
        ("slide,5 -3", "a run without a length"),
        ("slide,a b", "invalid literal"),
        (f"slide,1 {10**30}", "too large"),
        ("x,1 2\nslide", "line 3 has 1 cells, and the first line names 2"),
        ("x,1 2", "0 of its 1 lines have the id 'slide'"),
        ("slide,1 2\nslide,1 2", "2 of its 2 lines"),
        ('slide,"1 2', "a quotation mark of line 2 does not end"),
    ],
)
def test_bad_tables(read, row, message):
    with pytest.raises(UserError, match=message):
        read(f"id,encoding\n{row}\n", FOUR_ROWS)


def test_run_lengths_alone_say_nothing(read):
    with pytest.raises(UserError, match="need the size of their slide"):
        read("id,encoding\nslide,1 2\n")


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_area_is_that_of_the_mask(tmp_path_factory, width, height, random):
    mask = np.array([[random.randint(0, 1) for _ in range(width)] for _ in range(height)], np.uint8)
    path = tmp_path_factory.getbasetemp() / "rle.csv"
    path.write_text(f"id,encoding\nslide,{encode(mask)}\n")
    found = read_annotations(path, Frame(size=Size(width, height)))
    assert sum(a.polygon.area for a in found) == pytest.approx(mask.sum())


def test_ends_instead_of_lengths_are_refused(read):
    starts = [1 + 800 * column for column in range(20)]
    ends = " ".join(f"{start} {start + 100}" for start in starts)
    with pytest.raises(UserError, match="its runs overlap"):
        read(f"id,encoding\nslide,{ends}\n", Frame())
    shuffled = " ".join(f"{start} 100" for start in reversed(starts))
    assert len(read(f"id,encoding\nslide,{shuffled}\n", Frame())) == 1


def test_noise_is_refused_in_seconds(read):
    pixels = " ".join(f"{1 + 800 * x + y} 1" for x in range(1000) for y in range(x % 2, 800, 2))
    start = time.process_time()
    with pytest.raises(UserError, match="areas and holes are no objects"):
        read(f"id,encoding\nslide,{pixels}\n", Frame())
    assert time.process_time() - start < 8
