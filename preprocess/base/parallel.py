"""Threads that work ahead, with the results in order, and how many processors there are for them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def num_processors() -> int:
    """How many processors this process may use; all of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_order(function: Callable[[Item], Value], items: Iterable[Item], threads: int = 1) -> Iterator[Value]:
    """``function`` of every item, in the order of the items, by ``threads`` threads.

    At most two items a thread are in work or wait to be taken, so memory is bounded. The first exception
    is raised in the place of its value, after the threads have finished what they had begun.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Value]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
