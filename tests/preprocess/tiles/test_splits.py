from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.base.errors import UserError
from preprocess.base.hashing import unit_hash
from preprocess.slides.table import SPLITS, check_patients
from preprocess.tiles.splits import assign_splits, balance_splits, parse_fractions

PATIENTS = [f"p{number}" for number in range(20)]


def test_a_patient_falls_where_its_number_lies():
    # unit_hash("0:p0"), unit_hash("0:p1"), ... against 0.5 and 0.75.
    numbers = [unit_hash(f"0:{name}") for name in PATIENTS]
    expected = ["train" if x < 0.5 else "val" if x < 0.75 else "test" for x in numbers]
    assert assign_splits(PATIENTS, (0.5, 0.25, 0.25), seed=0) == expected
    assert set(expected) == set(SPLITS)


@given(
    st.lists(st.text(max_size=8), min_size=1, max_size=40, unique=True),
    st.lists(st.text(max_size=8), max_size=40),
    st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.2, 0.0), (0.1, 0.2, 0.7), (0.0, 0.0, 1.0)]),
    st.integers(0, 9),
)
def test_patients_who_are_added_move_nobody(patients, added, fractions, seed):
    try:
        before = assign_splits(patients, fractions, seed)
    except UserError:
        return
    assert assign_splits([*added, *patients], fractions, seed)[len(added) :] == before


@given(st.integers(0, 10**6), st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.34, 0.33, 0.33)]))
@settings(max_examples=30)
def test_shares_are_met_within_what_chance_allows(seed, fractions):
    splits = assign_splits([f"patient-{number}" for number in range(2000)], fractions, seed)
    for name, share in zip(SPLITS, fractions, strict=True):
        # Six standard deviations: by chance alone once in 500 million draws.
        assert abs(splits.count(name) - 2000 * share) < 6 * math.sqrt(2000 * share * (1 - share))


def test_a_patient_stays_together_whatever_the_order():
    twice = PATIENTS + PATIENTS[::-1]
    for assign in (assign_splits, balance_splits):
        splits = assign(twice, (0.5, 0.25, 0.25), seed=1)
        assert splits[:20] == splits[20:][::-1]
        assert splits[:20] == assign(PATIENTS, (0.5, 0.25, 0.25), seed=1)
        assert splits[:20] != assign(PATIENTS, (0.5, 0.25, 0.25), seed=2)


def test_a_split_without_a_patient_is_refused_with_what_to_do():
    assert assign_splits(["a"], (1, 0, 0), 0) == ["train"]
    with pytest.raises(UserError, match=r"none of the 2 patients falls into the split 'val', whose share is 0\.001"):
        assign_splits(["a", "b"], (0.999, 0.001, 0), 0)
    with pytest.raises(UserError, match="use another seed, give the column split, add patients"):
        assign_splits(["a", "b"], (0.7, 0.15, 0.15), 0)


def test_balanced_counts_by_hand():
    splits = balance_splits(PATIENTS, (0.7, 0.15, 0.15), seed=0)
    assert [splits.count(name) for name in ("train", "val", "test")] == [14, 3, 3]


@given(st.integers(3, 60), st.floats(0.05, 0.9), st.floats(0.1, 0.9), st.integers(0, 9))
def test_balanced_every_split_asked_for_is_filled(count, train, part, seed):
    val = (1 - train) * part
    splits = balance_splits([str(n) for n in range(count)], (train, val, 1 - train - val), seed)
    assert set(splits) == {"train", "val", "test"}


def test_balanced_a_split_may_be_left_out_but_not_be_empty():
    assert balance_splits(["a"], (1, 0, 0), 0) == ["train"]
    with pytest.raises(UserError, match="2 patient"):
        balance_splits(["a", "b"], (0.7, 0.15, 0.15), 0)


@pytest.mark.parametrize("text", ["0.7/0.3", "a/b/c", "0.7/0.7/0.7", "1.5/-0.5/0", "nan/0/1", ""])
def test_wrong_fractions(text):
    with pytest.raises(UserError):
        parse_fractions(text)


def test_a_patient_in_two_splits_is_named():
    table = pd.DataFrame({"patient": ["a", "b", "b", None], "split": ["train", "train", "val", "test"]})
    with pytest.raises(UserError, match="patient 'b' is in two splits: train and val"):
        check_patients(table)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["HE", "PAS", "PASM", None])), min_size=3, max_size=80),
    st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.8, 0.2, 0.0), (0.34, 0.33, 0.33)]),
    st.integers(0, 5),
)
def test_strata_are_shared_out_and_no_patient_is_in_two_splits(slides, fractions, seed):
    patients, stains = [f"p{number}" for number, _ in slides], [stain for _, stain in slides]
    if len(set(patients)) < 3:
        return
    splits = balance_splits(patients, fractions, seed, stains)
    assert len(set(zip(patients, splits, strict=True))) == len(set(patients))
    # The same whatever the order of the table.
    assert balance_splits(patients[::-1], fractions, seed, stains[::-1]) == splits[::-1]
    stratum = {
        p: "+".join(sorted({s or "" for q, s in zip(patients, stains, strict=True) if q == p})) for p in patients
    }
    totals = [len({p for p, s in zip(patients, splits, strict=True) if s == name}) for name in SPLITS]
    for one in set(stratum.values()):
        members = [p for p in stratum if stratum[p] == one]
        for name, total in zip(SPLITS, totals, strict=True):
            got = len({p for p, s in zip(patients, splits, strict=True) if s == name and stratum[p] == one})
            assert abs(got - len(members) * total / len(stratum)) < 2


def test_strata_by_hand():
    stains = ["PAS", "HE"] * 10
    splits = balance_splits(PATIENTS, (0.6, 0.2, 0.2), 0, stains)
    for stain in ("PAS", "HE"):
        found = [split for split, of in zip(splits, stains, strict=True) if of == stain]
        assert [found.count(name) for name in SPLITS] == [6, 2, 2]


def test_amounts_are_shared_out_by_thirds():
    amounts = [str(number * number) for number in range(30)]
    patients = [f"p{number}" for number in range(30)]
    splits = balance_splits(patients, (0.6, 0.2, 0.2), 0, amounts)
    for start in (0, 10, 20):
        third = splits[start : start + 10]
        assert [third.count(name) for name in SPLITS] == pytest.approx([6, 2, 2], abs=1)
