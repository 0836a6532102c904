from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest

from preprocess.base.hashing import unit_hash


def test_the_number_of_a_name_never_changes():
    # The first 53 bits of SHA-256("abc"), ba7816bf 8f01cfea ..., by hand.
    assert unit_hash("abc") == (0xBA7816BF8F01CFEA >> 11) / 2**53
    assert unit_hash("abc") == pytest.approx(0.72839491, abs=1e-8)


def test_the_numbers_are_evenly_spread():
    numbers = [unit_hash(str(n)) for n in range(2000)]
    assert [sum(low <= x < low + 0.25 for x in numbers) for low in (0, 0.25, 0.5, 0.75)] == pytest.approx(
        [500] * 4, abs=80
    )


def test_the_largest_number_is_below_one(monkeypatch):
    monkeypatch.setattr(hashlib, "sha256", lambda _: SimpleNamespace(digest=lambda: b"\xff" * 32))
    assert unit_hash("") < 1
