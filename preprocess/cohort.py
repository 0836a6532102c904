"""The same work over many slides, in several processes: a slide that fails never stops the others."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import cv2

from preprocess.console import describe_error, progress
from preprocess.errors import UserError

Item = TypeVar("Item")
Value = TypeVar("Value")

# A full disk fails every slide alike, so the first one ends the run.
_FATAL_ERRNOS = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """What became of one item: its ``value``, or the ``error`` in one line."""

    item: Item
    value: Value | None = None
    error: str | None = None


def run_cohort(
    function: Callable[[Item], Value], items: Sequence[Item], workers: int = 1, description: str = "slides"
) -> list[Outcome[Item, Value]]:
    """``function`` of every item, in ``workers`` processes; the outcomes are in the order of the items.

    With more than one worker, ``function`` is at the top level of a module, and items and values can be
    pickled. An exception, or a worker that is killed, is the error of its item alone. A full disk raises
    its OSError, and Ctrl-C raises KeyboardInterrupt, both after the workers have cleaned up.
    """
    workers = min(workers, len(items))
    outcomes: dict[int, Outcome[Item, Value]] = {}
    with progress((), total=len(items), description=description, unit="slide") as bar:
        if workers <= 1:
            for index, item in enumerate(items):
                outcomes[index] = _unless_fatal(_attempt(function, item))
                bar.update()
        else:
            for index, outcome in _run_processes(function, items, workers):
                outcomes[index] = outcome
                bar.update()
    return [outcomes[index] for index in range(len(items))]


def _run_processes(function: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Any:
    """Yield (index, outcome) as they come; every worker has one item at a time, so a death is that item's."""
    pending = deque(range(len(items)))
    running: dict[Connection, _Worker] = {}
    try:
        while pending or running:
            while pending and len(running) < workers:
                worker = _Worker(function, threads=max(1, (os.cpu_count() or 1) // workers))
                running[worker.connection] = worker
                worker.submit(pending.popleft(), items)
            for connection in wait(list(running)):
                worker = running[connection]  # type: ignore[index]
                try:
                    result = worker.connection.recv()
                except (EOFError, OSError):
                    result = Outcome(items[worker.index], error=worker.epitaph()), None
                    del running[worker.connection]
                yield worker.index, _unless_fatal(result)
                if worker.connection in running:
                    if pending:
                        worker.submit(pending.popleft(), items)
                    else:
                        worker.connection.close()
                        del running[worker.connection]
                        worker.process.join(_STOP_SECONDS)
    finally:
        for worker in running.values():
            worker.process.terminate()
        for worker in running.values():
            worker.process.join(_STOP_SECONDS)
            worker.process.kill()


class _Worker:
    """One process, and the line to it."""

    def __init__(self, function: Callable[[Any], Any], threads: int) -> None:
        # Not fork: OpenCV and torch hold locks in threads that a forked process does not have.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.index = -1

    def submit(self, index: int, items: Sequence[Any]) -> None:
        self.index = index
        self.connection.send(items[index])

    def epitaph(self) -> str:
        """Why the process is gone."""
        self.process.join(_STOP_SECONDS)
        return (
            f"its process ended with exit code {self.process.exitcode} "
            "(-9 is mostly a lack of memory: use fewer workers, then run the same command again)"
        )


def _serve(connection: Connection, function: Callable[[Any], Any], threads: int) -> None:
    """A worker's life: take an item, send its outcome, until the line is closed or SIGTERM comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, _leave)
    cv2.setNumThreads(threads)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(_attempt(function, item))


def _leave(*_: Any) -> None:
    """Exit through the ``finally`` blocks, which remove half-written files."""
    sys.exit(1)


def _attempt(function: Callable[[Any], Any], item: Any) -> tuple[Outcome[Any, Any], OSError | None]:
    """The outcome of one item, and the error that must end the whole run, if it is one."""
    try:
        return Outcome(item, value=function(item)), None
    except (UserError, OSError) as error:
        fatal = error if isinstance(error, OSError) and error.errno in _FATAL_ERRNOS else None
        return Outcome(item, error=describe_error(error)), fatal
    except Exception as error:
        if os.environ.get("MHKD_TRACEBACK"):
            traceback.print_exc()
        advice = "(an error of the program: run it with MHKD_TRACEBACK=1 and report what it prints)"
        return Outcome(item, error=f"{type(error).__name__}: {describe_error(error)} {advice}"), None


def _unless_fatal(result: tuple[Outcome[Any, Any], OSError | None]) -> Outcome[Any, Any]:
    outcome, fatal = result
    if fatal is not None:
        raise fatal
    return outcome
