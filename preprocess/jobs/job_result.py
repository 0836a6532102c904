"""What became of one item of a cohort, and how an attempt at it ends."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from preprocess.base.console import describe_error
from preprocess.base.errors import UserError
from preprocess.base.files import DISK_FULL

Item = TypeVar("Item")
Value = TypeVar("Value")

MAX_ATTEMPTS = 2
"""How often an item may take its process with it; then it is reported as failed."""


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """What became of one item: its ``value``, or the ``error`` in one line."""

    item: Item
    value: Value | None = None
    error: str | None = None


Result = tuple[Outcome[Any, Any], OSError | None]
"""The outcome of one item, and the error that must end the whole run, if it is one."""


def attempt(function: Callable[[Any], Any], item: Any) -> Result:
    """``function`` of one item; whatever it raises becomes the item's error."""
    try:
        return Outcome(item, value=function(item)), None
    except (UserError, OSError) as error:
        # A full disk fails every slide alike, so the first one ends the run.
        fatal = error if isinstance(error, OSError) and error.errno in DISK_FULL else None
        return Outcome(item, error=describe_error(error)), fatal
    except Exception as error:
        if os.environ.get("MHKD_TRACEBACK"):
            traceback.print_exc()
        advice = "(an error of the program: run it with MHKD_TRACEBACK=1 and report what it prints)"
        return Outcome(item, error=f"{type(error).__name__}: {describe_error(error)} {advice}"), None


def unless_fatal(result: Result) -> Outcome[Any, Any]:
    """The outcome; raises the error that must end the whole run."""
    outcome, fatal = result
    if fatal is not None:
        raise fatal
    return outcome


def lost(item: Any, cause: str) -> Outcome[Any, Any]:
    """The outcome of an item whose process died at every attempt."""
    return Outcome(
        item,
        error=f"its process died {MAX_ATTEMPTS} times, {cause} "
        "(-9 is mostly a lack of memory: use fewer workers, then run the same command again)",
    )


def failures(outcomes: Iterable[Outcome[Any, Any]]) -> list[str]:
    """One line for each item that failed: its name and why."""
    return [f"{outcome.item.name}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
