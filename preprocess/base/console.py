"""What every command-line tool shares: one-line errors, exit codes, progress bars."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any

from tqdm import tqdm

from preprocess.base.errors import UserError

EXIT_OK, EXIT_ERROR, EXIT_PARTIAL, EXIT_INTERRUPTED = 0, 1, 3, 130


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help that shows defaults, where there are any, and keeps the line breaks of the examples."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def progress(items: Iterable[Any], *, total: int | None = None, description: str, unit: str = "it") -> tqdm:
    """A progress bar on standard error; a plain line now and then where that is no terminal."""
    if sys.stderr.isatty():
        return tqdm(items, total=total, desc=description, unit=unit, dynamic_ncols=True)
    form = "{desc}: {n_fmt} {unit}s, {elapsed} passed"
    if total is not None or isinstance(items, Sized):
        form = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} passed, {remaining} to go"
    return tqdm(items, total=total, desc=description, unit=unit, mininterval=10.0, bar_format=form, file=_Lines())


# What tqdm sends to get from one of two bars to the other.
_CURSOR_UP = "\x1b[A"


class _Lines:
    """What tqdm writes to redraw its one line, as lines of their own."""

    def __init__(self) -> None:
        self._last = ""

    def write(self, text: str) -> None:
        line = text.replace(_CURSOR_UP, "").strip()
        if line and line != self._last:
            print(line, file=sys.stderr)
            self._last = line

    def flush(self) -> None:
        sys.stderr.flush()


def note(text: str) -> None:
    """One line on standard error: what a user should know and need not mend."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def report(lines: Iterable[str], failures: Sequence[str], total: int, *, head: str = "", tail: str = "") -> int:
    """Print the result of ``total`` items, and those that failed on standard error; the exit code they ask for.

    head, tail: lines before and after them, where there are any.
    """
    for line in filter(None, (head, *(f"  {line}" for line in lines))):
        print(line)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if tail:
        print(tail)
    if not failures:
        return EXIT_OK
    return EXIT_ERROR if len(failures) == total else EXIT_PARTIAL


def run_main(main: Callable[[], int | None]) -> None:
    """Run ``main`` and exit: 0 all done, 1 error, 3 some items failed, 130 interrupted.

    Errors that a user can mend are printed as one line. With ``MHKD_TRACEBACK=1`` they keep their
    traceback, for developers.
    """
    try:
        sys.exit(main() or EXIT_OK)
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; run the same command again to go on", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except (UserError, OSError) as error:
        if os.environ.get("MHKD_TRACEBACK"):
            raise
        print(f"error: {describe_error(error)}", file=sys.stderr)
        sys.exit(EXIT_ERROR)


def describe_error(error: BaseException) -> str:
    """One line for ``error``, with the remedy where there is a usual one."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        remedy = "free some space, then run the same command again"
        return f"{error.filename or 'output'}: no space left on the device ({remedy})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'file'}: {error.strerror.lower()}"
    return " ".join(str(error).split()) or type(error).__name__
