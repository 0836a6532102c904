"""One model against others on the same slides: differences with intervals from the same draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mhkd.evaluation.bootstrap import interval
from mhkd.evaluation.metrics import SlideFigures

COMPARED = ("AP", "AP50", "F1", "centre_F1")


def compare_last(figures: Mapping[str, SlideFigures]) -> dict[str, dict[str, Any]]:
    """By how many points the last of ``figures`` is better than each of the others, as plain JSON.

    ``{other: {"AP": {"difference": d, "interval": [low, high] or None}, ...}}``. Intervals are paired: each draw of
    patients gives both models' figures, so what is hard for both cancels. ValueError where the slides differ.
    """
    if not figures:
        return {}
    *others, last = figures
    slides = {tuple(case.name for case in one.cases) for one in figures.values()}
    if len(slides) > 1:
        raise ValueError("models are compared on the same slides only")
    return {other: _difference(figures[last], figures[other]) for other in others}


def _difference(one: SlideFigures, other: SlideFigures) -> dict[str, Any]:
    table = {}
    for name in COMPARED:
        values = one.result[name], other.result[name]
        table[name] = {
            "difference": None if None in values else values[0] - values[1],
            "interval": interval(one.samples[name] - other.samples[name]) if one.samples and other.samples else None,
        }
    return table
