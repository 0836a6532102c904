"""Items in several processes of this machine: a slide that crashes its reader takes nothing else with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import cv2

from preprocess.base.console import standard_streams
from preprocess.jobs.job_result import MAX_ATTEMPTS, Finished, attempt, job_died, job_stalled, raise_if_fatal

_STOP_SECONDS, _STALLED_SECONDS = 20.0, 2.0


def run_in_processes(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int, limit_s: float | None = None
) -> Finished:
    """Yield (index, result) as they come; every worker has one item at a time, so a death is that item's.

    An item whose process dies is tried once more, after all others. One that takes longer than ``limit_s`` seconds
    loses its process, and is not tried again.
    """
    pending, attempts = deque(range(len(items))), Counter[int]()
    running: dict[Connection, _Worker] = {}
    try:
        while pending or running:
            while pending and len(running) < workers:
                worker = _Worker(function, threads=max(1, (os.cpu_count() or 1) // workers))
                running[worker.connection] = worker
                worker.submit(pending.popleft(), items)
            started = min(worker.started for worker in running.values())
            remaining = None if limit_s is None else max(0.0, started + limit_s - time.monotonic())
            for connection in wait(list(running), remaining):
                worker = running[connection]  # type: ignore[index]
                try:
                    attempted = worker.connection.recv()
                except (EOFError, OSError):
                    del running[worker.connection]
                    attempts[worker.index] += 1
                    if attempts[worker.index] < MAX_ATTEMPTS:
                        pending.append(worker.index)
                    else:
                        yield worker.index, job_died(items[worker.index], f"with exit code {worker.exit_code()}")
                    continue
                yield worker.index, raise_if_fatal(attempted)
                if pending:
                    worker.submit(pending.popleft(), items)
                else:
                    worker.connection.close()
                    del running[worker.connection]
                    worker.process.join(_STOP_SECONDS)
            if limit_s is not None:
                for worker in [one for one in running.values() if time.monotonic() - one.started >= limit_s]:
                    del running[worker.connection]
                    worker.stop(_STALLED_SECONDS)
                    yield worker.index, job_stalled(items[worker.index], limit_s)
    finally:
        for worker in running.values():
            worker.process.terminate()  # all of them first
        for worker in running.values():
            worker.stop(_STOP_SECONDS)


class _Worker:
    """One process, and the line to it."""

    def __init__(self, function: Callable[[Any], Any], threads: int) -> None:
        # Not fork: OpenCV and torch hold locks in threads that a forked process does not have.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.index, self.started = -1, 0.0

    def submit(self, index: int, items: Sequence[Any]) -> None:
        """Send an item; that the process is gone shows when its result is asked for."""
        self.index, self.started = index, time.monotonic()
        try:
            self.connection.send(items[index])
        except OSError:
            self.process.join(_STOP_SECONDS)

    def stop(self, patience_s: float) -> None:
        """End the process, if it does not clean up and leave within ``patience_s`` by force."""
        self.process.terminate()
        self.process.join(patience_s)
        self.process.kill()
        self.process.join(patience_s)

    def exit_code(self) -> int | None:
        self.process.join(_STOP_SECONDS)
        return self.process.exitcode


def _serve(connection: Connection, function: Callable[[Any], Any], threads: int) -> None:
    """A worker's life: take an item, send its result, until the line is closed or SIGTERM comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_die_with_the_parent, daemon=True).start()
    cv2.setNumThreads(threads)
    with standard_streams(end=False):
        while True:
            try:
                item = connection.recv()
            except EOFError:
                return
            connection.send(attempt(function, item))


def _die_with_the_parent() -> None:
    """A parent that is killed says nothing; a worker that went on would write beside the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _leave(*_: Any) -> None:
    """Exit through the ``finally`` blocks, which remove half-written files."""
    sys.exit(1)
