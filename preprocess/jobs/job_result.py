"""What became of one item of a cohort, and how an attempt at it ends."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Generator, Iterable
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
class JobResult(Generic[Item, Value]):
    """What became of one item: its ``value``, or the ``error`` in one line."""

    item: Item
    value: Value | None = None
    error: str | None = None


Attempt = tuple[JobResult[Any, Any], OSError | None]
"""The result of one item, and the error that must end the whole run, if it is one."""

Finished = Generator[tuple[int, JobResult[Any, Any]], None, None]
"""The results as they come, each with its item's place."""


def attempt(function: Callable[[Any], Any], item: Any) -> Attempt:
    """``function`` of one item; whatever it raises becomes the item's error."""
    try:
        return JobResult(item, value=function(item)), None
    except (UserError, OSError) as error:
        # A full disk fails every slide alike, so the first one ends the run.
        fatal = error if isinstance(error, OSError) and error.errno in DISK_FULL else None
        return JobResult(item, error=describe_error(error)), fatal
    except Exception as error:
        if os.environ.get("MHKD_TRACEBACK"):
            traceback.print_exc()
        advice = "(an error of the program: run it with MHKD_TRACEBACK=1 and report what it prints)"
        return JobResult(item, error=f"{type(error).__name__}: {describe_error(error)} {advice}"), None


def raise_if_fatal(attempted: Attempt) -> JobResult[Any, Any]:
    """The result; raises the error that must end the whole run."""
    result, fatal = attempted
    if fatal is not None:
        raise fatal
    return result


def job_died(item: Any, cause: str) -> JobResult[Any, Any]:
    """The result of an item whose process died at every attempt."""
    return JobResult(
        item,
        error=f"its process died {MAX_ATTEMPTS} times, {cause} "
        "(-9 is mostly a lack of memory: use fewer workers, then run the same command again)",
    )


def job_stalled(item: Any, limit_s: float) -> JobResult[Any, Any]:
    """The result of an item that was ended after ``limit_s`` seconds."""
    return JobResult(
        item, error=f"not finished after {limit_s / 60:.3g} minutes, and ended (--minutes-per-slide gives it more)"
    )


def failures(results: Iterable[JobResult[Any, Any]]) -> list[str]:
    """One line for each item that failed: its name and why."""
    return [f"{result.item.name}: {result.error}" for result in results if result.error is not None]
