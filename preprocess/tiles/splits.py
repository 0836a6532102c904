"""Train, validation and test, divided by patient."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import pandas as pd

from preprocess.base.errors import UserError
from preprocess.base.hashing import unit_hash
from preprocess.slides.table import SPLITS

Fractions = tuple[float, float, float]
"""The shares of train, val and test; they sum to 1."""

# More numbers than these are amounts, not names of classes.
_FEW_VALUES = 6


def parse_fractions(text: str) -> Fractions:
    """``0.7/0.15/0.15`` -> the fractions of train, val and test; they sum to 1. Raises UserError otherwise."""
    remedy = "write train/val/test fractions that sum to 1, such as 0.7/0.15/0.15"
    try:
        train, val, test = (float(part) for part in text.split("/"))
    except ValueError:
        raise UserError(f"not three fractions: {text!r}", remedy=remedy) from None
    if not (min(train, val, test) >= 0 and abs(train + val + test - 1) < 1e-6):
        raise UserError(f"the fractions {text!r} do not sum to 1", remedy=remedy)
    return train, val, test


def assign_splits(patients: Sequence[str], fractions: Fractions, seed: int) -> list[str]:
    """A split for each entry of ``patients``; all entries of a patient get the same, whoever else there is.

    A hash of the seed and the patient's name is a number in [0, 1); the split is the one whose part of the cumulated
    ``fractions`` (train, val, test) it falls into. So patients that are added later move nobody, and the shares are met
    by chance. Raises UserError where a fraction above 0 gets no patient.
    """
    wanted = _above_zero(fractions)
    limits = list(accumulate(wanted.values()))
    limits[-1] = 1.0  # what rounding left of the sum
    names = list(wanted)
    split_of = {name: names[bisect_right(limits, unit_hash(f"{seed}:{name}"))] for name in set(patients)}
    for name in names:
        if name not in split_of.values():
            raise UserError(
                f"none of the {len(split_of)} patients falls into the split {name!r}, whose share is {wanted[name]:g}",
                remedy="use another seed, give the column split, add patients, or give the split a share of 0",
            )
    return [split_of[name] for name in patients]


def balance_splits(
    patients: Sequence[str], fractions: Fractions, seed: int, strata: Sequence[object] | None = None
) -> list[str]:
    """A split for each entry of ``patients``, with the number of patients of each as near to its share as can be.

    For tables that do not grow: a patient that is added may move others, which :func:`assign_splits` rules out.

    ``strata`` has a value for each entry, such as its stain or its number of objects, and every split gets its share of
    each: patients are dealt out stratum by stratum, ordered by a hash of the seed and their name, to the split that
    lacks most. The stratum of a patient is all the values of its entries, or, where they are more numbers than a
    handful, the third of the patients that their sum is in. Every fraction above 0 gets at least one patient; UserError
    if there are too few for that.
    """
    wanted = _above_zero(fractions)
    names = sorted(set(patients), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    if len(names) < len(wanted):
        raise UserError(
            f"{len(names)} patient(s) cannot fill the splits {', '.join(wanted)}",
            remedy="add patients, or give a fraction of 0 to a split",
        )
    if strata is not None:
        stratum_of = _strata(patients, strata)
        names.sort(key=lambda name: stratum_of[name])
    counts = _counts(wanted, len(names))
    dealt = dict.fromkeys(counts, 0)
    split_of = {}
    for place, patient in enumerate(names, start=1):
        lacking = max(counts, key=lambda name: counts[name] * place / len(names) - dealt[name])
        dealt[lacking] += 1
        split_of[patient] = lacking
    return [split_of[name] for name in patients]


def _above_zero(fractions: Fractions) -> dict[str, float]:
    return {name: fraction for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0}


def _counts(fractions: Mapping[str, float], total: int) -> dict[str, int]:
    """How many of ``total`` patients each split gets: as near to its fraction as can be, and at least one."""
    share = {name: fraction * total for name, fraction in fractions.items()}
    counts = {name: max(1, int(value)) for name, value in share.items()}
    while sum(counts.values()) > total:
        spare = [name for name in counts if counts[name] > 1]
        counts[max(spare, key=lambda name: counts[name] - share[name])] -= 1
    while sum(counts.values()) < total:
        counts[max(counts, key=lambda name: share[name] - counts[name])] += 1
    return counts


def _strata(patients: Sequence[str], values: Sequence[object]) -> dict[str, str]:
    """The stratum of each patient."""
    table = pd.DataFrame({"patient": patients, "value": values})
    numbers = pd.to_numeric(table["value"], errors="coerce")
    if numbers.nunique() > _FEW_VALUES and numbers[table["value"].notna()].notna().all():
        ranks = numbers.fillna(0).groupby(table["patient"]).sum().rank(method="first", pct=True)
        return {str(name): str(min(2, int(3 * rank))) for name, rank in ranks.items()}
    names = table["value"].fillna("").astype(str).groupby(table["patient"])
    return {str(patient): "+".join(sorted(set(found))) for patient, found in names}
