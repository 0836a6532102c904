"""Train, validation and test, divided by patient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pandas as pd

from preprocess.errors import UserError

SPLITS = ("train", "val", "test")


def check_patients(table: pd.DataFrame) -> None:
    """UserError if a patient of ``table`` (columns patient, split) is in two splits."""
    for patient, splits in table.dropna(subset=["patient", "split"]).groupby("patient")["split"]:
        found = [name for name in SPLITS if name in set(splits)]
        if len(found) > 1:
            raise UserError(
                f"patient {patient!r} is in two splits: {' and '.join(found)}",
                remedy="give all slides of a patient the same split",
            )


def parse_fractions(text: str) -> tuple[float, float, float]:
    """``0.7/0.15/0.15`` -> the fractions of train, val and test; they sum to 1. Raises UserError otherwise."""
    remedy = "write train/val/test fractions that sum to 1, such as 0.7/0.15/0.15"
    try:
        train, val, test = (float(part) for part in text.split("/"))
    except ValueError:
        raise UserError(f"not three fractions: {text!r}", remedy=remedy) from None
    if not (min(train, val, test) >= 0 and abs(train + val + test - 1) < 1e-6):
        raise UserError(f"the fractions {text!r} do not sum to 1", remedy=remedy)
    return train, val, test


def assign_splits(patients: Sequence[str], fractions: tuple[float, float, float], seed: int) -> list[str]:
    """A split for each entry of ``patients``; all entries of a patient get the same.

    Patients are ordered by a hash of the seed and their name, so the result depends neither on the order
    of the table nor on the machine. Every fraction above 0 gets at least one patient; UserError if there
    are too few for that.
    """
    wanted = [name for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    names = sorted(set(patients), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    if len(names) < len(wanted):
        raise UserError(
            f"{len(names)} patient(s) cannot fill the splits {', '.join(wanted)}",
            remedy="add patients, or give a fraction of 0 to a split",
        )
    share = {name: fraction * len(names) for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0}
    counts = {name: max(1, int(value)) for name, value in share.items()}
    while sum(counts.values()) > len(names):
        spare = [name for name in counts if counts[name] > 1]
        counts[max(spare, key=lambda name: counts[name] - share[name])] -= 1
    while sum(counts.values()) < len(names):
        counts[max(counts, key=lambda name: share[name] - counts[name])] += 1
    order = [name for name in wanted for _ in range(counts[name])]
    split_of = dict(zip(names, order, strict=True))
    return [split_of[name] for name in patients]
