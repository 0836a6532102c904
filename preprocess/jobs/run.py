"""The same work over many slides: a slide that fails never stops the others."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Literal, get_args

from preprocess.base.console import progress
from preprocess.base.errors import UserError
from preprocess.jobs.job_result import Finished, Item, JobResult, Value, attempt, raise_if_fatal
from preprocess.jobs.processes import run_in_processes
from preprocess.jobs.ray_cluster import run_on_ray

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


def add_run_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that are ``limit_s``, ``engine`` and ``address`` of :func:`run_cohort`."""
    group.add_argument(
        "--minutes-per-slide",
        type=parse_limit,
        default="120",
        dest="limit_s",
        metavar="N",
        help="end a worker that takes longer over a slide, and report it; 0: never",
    )
    group.add_argument("--engine", choices=ENGINES, default="local", help="ray: on a Ray cluster (pip install ray)")
    group.add_argument("--address", metavar="HOST:PORT", help="the Ray cluster, or auto (one is started here)")


def parse_limit(text: str) -> float | None:
    """Minutes as seconds; None for 0, which is no limit. Raises UserError where it is no such number."""
    try:
        seconds = 60 * float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"{text!r} are no minutes", remedy="give 0 or more")
    return seconds or None


def run_cohort(
    function: Callable[[Item], Value],
    items: Sequence[Item],
    workers: int | None = 0,
    description: str = "slides",
    *,
    engine: EngineName = "local",
    address: str | None = None,
    unit: str = "slide",
    num_gpus: float = 0,
    limit_s: float | None = None,
) -> list[JobResult[Item, Value]]:
    """``function`` of every item; the results are in the order of the items, whatever ran where and when.

    ``workers`` are processes; 0 is none but this one, which an item that crashes takes with it. The engine ``ray`` uses
    the cluster at ``address``, takes None for all its CPUs, and gives each item ``num_gpus``. But for 0, ``function``
    is at the top level of a module, and items and values can be pickled. An exception, or a worker killed twice over
    one item, is that item's error; so is an item that takes a worker longer than ``limit_s`` seconds. A full disk
    (OSError) and Ctrl-C end the run, after the workers have cleaned up. Raises UserError for less than 0 workers.
    """
    finished: Finished
    if workers is not None and workers < 0:
        raise UserError(f"{workers} workers are not possible", remedy="give 0 or more")
    if engine == "ray" and items:
        finished = run_on_ray(function, items, workers, address, num_gpus, limit_s)
    elif workers and items:
        finished = run_in_processes(function, items, min(workers, len(items)), limit_s)
    else:
        finished = ((index, raise_if_fatal(attempt(function, item))) for index, item in enumerate(items))
    results: dict[int, JobResult[Item, Value]] = {}
    with progress((), total=len(items), description=description, unit=unit) as bar, closing(finished):
        for index, result in finished:
            results[index] = result
            bar.update()
    return [results[index] for index in range(len(items))]
