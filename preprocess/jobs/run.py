"""The same work over many slides: a slide that fails never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Literal, get_args

from preprocess.base.console import progress
from preprocess.jobs.job_result import Finished, Item, JobResult, Value, attempt, raise_if_fatal
from preprocess.jobs.processes import run_in_processes
from preprocess.jobs.ray_cluster import run_on_ray

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


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
) -> list[JobResult[Item, Value]]:
    """``function`` of every item; the results are in the order of the items, whatever ran where and when.

    ``workers`` are processes; 0 is none but this one, which an item that crashes takes with it. The engine ``ray`` uses
    the cluster at ``address``, takes None for all its CPUs, and gives each item ``num_gpus``. But for 0, ``function``
    is at the top level of a module, and items and values can be pickled. An exception, or a worker killed twice over
    one item, is that item's error. A full disk (OSError) and Ctrl-C end the run, after the workers have cleaned up.
    """
    finished: Finished
    if engine == "ray" and items:
        finished = run_on_ray(function, items, workers, address, num_gpus)
    elif workers and items:
        finished = run_in_processes(function, items, min(workers, len(items)))
    else:
        finished = ((index, raise_if_fatal(attempt(function, item))) for index, item in enumerate(items))
    results: dict[int, JobResult[Item, Value]] = {}
    with progress((), total=len(items), description=description, unit=unit) as bar, closing(finished):
        for index, result in finished:
            results[index] = result
            bar.update()
    return [results[index] for index in range(len(items))]
