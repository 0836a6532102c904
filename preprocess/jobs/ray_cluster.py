"""Items on a Ray cluster, an optional extra; the same results as in processes of this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import cv2

from preprocess.base.errors import UserError
from preprocess.jobs.job_result import MAX_ATTEMPTS, Attempt, Finished, attempt, job_died, raise_if_fatal


def run_on_ray(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    workers: int | None,
    address: str | None,
    num_gpus: float = 0,
    limit_s: float | None = None,
) -> Finished:
    """Yield (index, result) as they come, from the cluster at ``address`` (None: one is started on this machine).

    At most ``workers`` items run at a time (None: one for each CPU of the cluster, as it grows and shrinks); without
    ``num_gpus`` Ray hides its GPUs from them. An item whose worker or node dies is tried once more; one that takes
    longer than ``limit_s`` seconds loses its worker each time. Every node needs the same installation and sees the same
    paths. Raises UserError without Ray or a cluster at ``address``.
    """
    ray = _connect(workers, address)
    # Ray's own retries would hide what became of an item.
    remote = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=0)(_attempt_alone)
    pending, attempts = deque(range(len(items))), Counter[int]()
    running: dict[Any, int] = {}
    try:
        while pending or running:
            width = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            while pending and len(running) < width:
                index = pending.popleft()
                running[remote.remote(function, items[index], limit_s)] = index
            (reference,), _ = ray.wait(list(running))
            index = running.pop(reference)
            try:
                attempted: Attempt = ray.get(reference)
            except ray.exceptions.RayError as error:
                attempts[index] += 1
                if attempts[index] < MAX_ATTEMPTS:
                    pending.append(index)
                else:
                    yield index, job_died(items[index], f"on the Ray cluster: {type(error).__name__}")
                continue
            yield index, raise_if_fatal(attempted)
    finally:
        _stop(ray, list(running))


def _connect(workers: int | None, address: str | None) -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed", remedy="install it: pip install ray") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without an address Ray would join any cluster that it finds on the machine.
    place = {"address": address} if address else {"address": "local", "num_cpus": workers or os.cpu_count()}
    try:
        _knock(address or "")
        ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray's own classes, and a bare Exception where a node takes too long to start
        raise UserError(
            f"no Ray cluster at {address or 'this machine'}: {error}",
            remedy="start one with: ray start --head; a cluster with tokens needs RAY_AUTH_MODE=token here as well",
        ) from error
    return ray


def _knock(address: str) -> None:
    """OSError where nobody listens at ``HOST:PORT``: Ray itself would go on asking for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _stop(ray: Any, references: Sequence[Any]) -> None:
    """Let what runs clean up, as far as it can, and leave the cluster; one that was started here ends."""
    for reference in references:
        ray.cancel(reference, force=False)
    if references:
        ray.wait(list(references), num_returns=len(references), timeout=20)
    ray.shutdown()


def _attempt_alone(function: Callable[[Any], Any], item: Any, limit_s: float | None) -> Attempt:
    cv2.setNumThreads(1)
    has_timer = hasattr(signal, "setitimer")  # Windows has none, and a slide no limit there
    if has_timer:
        signal.setitimer(signal.ITIMER_REAL, limit_s or 0)  # SIGALRM ends a process that does not expect it
    try:
        return attempt(function, item)
    finally:
        if has_timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
