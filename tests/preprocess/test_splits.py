from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import UserError
from preprocess.splits import assign_splits, check_patients, parse_fractions

PATIENTS = [f"p{number}" for number in range(20)]


def test_counts_by_hand():
    splits = assign_splits(PATIENTS, (0.7, 0.15, 0.15), seed=0)
    assert [splits.count(name) for name in ("train", "val", "test")] == [14, 3, 3]


def test_a_patient_stays_together_whatever_the_order():
    twice = PATIENTS + PATIENTS[::-1]
    splits = assign_splits(twice, (0.5, 0.25, 0.25), seed=1)
    assert splits[:20] == splits[20:][::-1]
    assert splits[:20] == assign_splits(PATIENTS, (0.5, 0.25, 0.25), seed=1)
    assert splits[:20] != assign_splits(PATIENTS, (0.5, 0.25, 0.25), seed=2)


@given(st.integers(3, 60), st.floats(0.05, 0.9), st.floats(0.1, 0.9), st.integers(0, 9))
def test_every_split_asked_for_is_filled(count, train, part, seed):
    val = (1 - train) * part
    splits = assign_splits([str(n) for n in range(count)], (train, val, 1 - train - val), seed)
    assert set(splits) == {"train", "val", "test"}


def test_a_split_may_be_left_out_but_not_be_empty():
    assert assign_splits(["a"], (1, 0, 0), 0) == ["train"]
    with pytest.raises(UserError, match="2 patient"):
        assign_splits(["a", "b"], (0.7, 0.15, 0.15), 0)


@pytest.mark.parametrize("text", ["0.7/0.3", "a/b/c", "0.7/0.7/0.7", "1.5/-0.5/0", "nan/0/1", ""])
def test_wrong_fractions(text):
    with pytest.raises(UserError):
        parse_fractions(text)


def test_a_patient_in_two_splits_is_named():
    table = pd.DataFrame({"patient": ["a", "b", "b", None], "split": ["train", "train", "val", "test"]})
    with pytest.raises(UserError, match="patient 'b' is in two splits: train and val"):
        check_patients(table)
