"""What every command-line tool shares: one-line errors, exit codes, progress bars."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tqdm import tqdm

from preprocess.errors import UserError

EXIT_OK, EXIT_ERROR, EXIT_PARTIAL, EXIT_INTERRUPTED = 0, 1, 3, 130


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help that shows defaults and keeps the line breaks of the examples."""


def progress(items: Iterable[Any], *, total: int | None = None, description: str, unit: str = "it") -> tqdm:
    """A progress bar on standard error; a line now and then where that is no terminal."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(items, total=total, desc=description, unit=unit, mininterval=interval, dynamic_ncols=True)


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
