"""Types for ``argparse``: a number that is out of range is an error at the start."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from preprocess.base.geometry import MAX_MPP, MIN_MPP

_MANY = 10**6


def whole_number(least: int, most: int = _MANY) -> Callable[[str], int]:
    """A type for whole numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return value

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """A type for numbers from ``least`` to ``most``; a comma may be the decimal sign."""

    def parse(text: str) -> float:
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least:g} to {most:g}")
        return value

    return parse


count = whole_number(0)
positive = whole_number(1)
seed = whole_number(0, 2**32 - 1)
share = number(0, 1)
mpp = number(MIN_MPP, MAX_MPP)
amount = number(0, _MANY)
