"""Choices that look random and depend on a name alone: the same on every machine and in every order."""

from __future__ import annotations

import hashlib


def unit_hash(key: str) -> float:
    """A number in [0, 1), evenly spread, that depends on ``key`` alone."""
    return (int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 11) / 2**53
