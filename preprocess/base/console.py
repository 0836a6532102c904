"""What every command-line tool shares: one-line errors, exit codes, progress bars."""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from tqdm import tqdm

from preprocess.base.errors import UserError, printable

EXIT_OK, EXIT_ERROR, EXIT_PARTIAL, EXIT_INTERRUPTED = 0, 1, 3, 130
_KILLED = 128
"""What a shell adds to the number of the signal that ended a program."""
_SIGPIPE = 13
"""The number of the signal that ends other programs where a reader goes away; Windows knows none."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that shows defaults, where there are any and the text does not say them, and keeps the examples' lines."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        if text is None or "(default" in text or default is False or default in (None, "", [], argparse.SUPPRESS):
            return text
        shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})"


def command_parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """A parser whose help begins with ``description`` and ends with ``examples``.

    Its program is called as it was started: ``mhkd infer``, or the tool's file with its folder.
    """
    started = Path(sys.argv[0])
    program = "/".join(started.parts[-2:]) if started.suffix == ".py" else started.name
    return _Parser(program, description=description, epilog=examples, formatter_class=HelpFormatter)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """A wrong option is one line, as other errors are, and not below thirty of usage."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def progress(
    items: Iterable[Any],
    *,
    total: int | None = None,
    description: str,
    unit: str = "it",
    initial: int = 0,
    seconds: float = 10.0,
) -> tqdm:
    """A progress bar on standard error; a plain line every so many ``seconds`` where that is no terminal.

    initial: how many items were done before.
    """
    if sys.stderr.isatty():
        return tqdm(items, total=total, desc=description, unit=unit, initial=initial, dynamic_ncols=True)
    form = "{desc}: {n_fmt} {unit}s, {elapsed} passed"
    if total is not None or isinstance(items, Sized):
        form = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} passed, {remaining} to go"
    form_of_lines = {"mininterval": seconds, "bar_format": form, "file": _Lines()}
    return tqdm(items, total=total, desc=description, unit=unit, initial=initial, **form_of_lines)


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
    print(f"note: {printable(text)}", file=sys.stderr, flush=True)


def report(lines: Iterable[str], failures: Sequence[str], total: int, *, head: str = "", tail: str = "") -> int:
    """Print the result of ``total`` items, and those that failed on standard error; the exit code they ask for.

    head, tail: lines before and after them, where there are any.
    """
    for line in filter(None, (head, *(f"  {printable(line)}" for line in lines))):
        print(line)
    for failure in failures:
        print(f"failed: {printable(failure)}", file=sys.stderr)
    if tail:
        print(tail)
    if not failures:
        return EXIT_OK
    return EXIT_ERROR if len(failures) == total else EXIT_PARTIAL


def run_main(main: Callable[[], int | None]) -> None:
    """Run ``main`` and exit: 0 all done, 1 error, 3 some items failed, 130 interrupted, 143 and 141 ended from outside.

    Errors that a user can mend are printed as one line. With ``MHKD_TRACEBACK=1`` they keep their
    traceback, for developers. SIGTERM and SIGHUP end it as Ctrl-C does, through all that cleans up; so does a pipe
    whose reader went away, without a word.
    """
    with standard_streams(), _ended_by("SIGTERM", "SIGHUP"):
        try:
            try:
                code = main() or EXIT_OK
            finally:
                sys.stdout.flush()
            sys.exit(code)
        except KeyboardInterrupt:
            print("interrupted: what was finished is kept; run the same command again to go on", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        except (UserError, OSError) as error:
            if os.environ.get("MHKD_TRACEBACK"):
                raise
            print(f"error: {describe_error(error)}", file=sys.stderr)
            sys.exit(EXIT_ERROR)
        finally:  # the interpreter would wait for them
            for process in multiprocessing.active_children():
                process.terminate()


@contextmanager
def standard_streams(*, end: bool = True) -> Iterator[None]:
    """Standard output and error that take any text, and whose reader may go away, as ``head`` does.

    That ends the process, as SIGPIPE ends other programs; without ``end`` nothing more is printed. A stream that was
    closed when the program started (``2>&-``) leads nowhere: the next file to be opened would get what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            if not _is_open(number):
                _open_nowhere(number)
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Stream(stream, end) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_nowhere(number: int) -> None:
    """Let the file descriptor ``number``, and that of processes started from here, lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
    os.set_inheritable(number, True)


class _Stream:
    """Standard output or error; all but what is written goes to the stream itself."""

    def __init__(self, stream: TextIO, end: bool) -> None:
        self._stream, self._end = stream, end
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._try(self._stream.write, text) or 0

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, function: Callable[..., Any], *arguments: str) -> Any:
        try:
            return function(*arguments)
        except OSError as error:
            _open_nowhere(self._stream.fileno())  # for what is left in the buffer
            if not isinstance(error, BrokenPipeError):
                raise
        if self._end:
            sys.exit(_KILLED + _SIGPIPE)


@contextmanager
def _ended_by(*names: str) -> Iterator[None]:
    """Let these signals raise SystemExit, but for those that are ignored, as with ``nohup``, or unknown here."""

    def leave(number: int, _: Any) -> None:
        sys.exit(_KILLED + number)

    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    ours = [one for one in known if signal.getsignal(one) == signal.SIG_DFL]
    for one in ours:
        signal.signal(one, leave)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def describe_error(error: BaseException) -> str:
    """One line for ``error``, with the remedy where there is a usual one."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        remedy = "free some space, then run the same command again"
        return printable(f"{error.filename or 'output'}: no space left on the device ({remedy})")
    if isinstance(error, OSError) and error.strerror:
        return printable(f"{error.filename or 'file'}: {error.strerror.lower()}")
    return printable(" ".join(str(error).split())) or type(error).__name__
