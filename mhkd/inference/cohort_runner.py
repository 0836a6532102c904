"""Many slides: what is finished is skipped, what fails is reported at the end, the rest goes on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from mhkd.inference.devices import describe_sharing
from mhkd.inference.report.cohort import TABLE, write_cohort_index
from mhkd.inference.slide_job import SlideJob, check_names
from mhkd.inference.slide_runner import SlideResult, describe, run_job
from preprocess.base.console import note, report
from preprocess.base.errors import UserError
from preprocess.base.files import exclusive_use, write_csv
from preprocess.jobs.job_result import JobResult, failures
from preprocess.jobs.run import EngineName, run_cohort
from preprocess.slides.naming import without_names
from preprocess.slides.search import SlideFile

FAILED_FILE = "failed.csv"
_RESERVED = {FAILED_FILE, TABLE, "evaluation.json"}  # what is about all slides, and what mhkd.evaluation adds

SearchOutcome = JobResult[SlideJob, dict[str, Any]]


def search_slides(
    jobs: Sequence[SlideJob],
    workers: int | None = 0,
    *,
    engine: EngineName = "local",
    address: str | None = None,
    limit_s: float | None = None,
) -> tuple[list[SearchOutcome], int]:
    """Search all slides that are not finished yet.

    Slides that failed are listed in ``failed.csv``, all of them in ``index.html`` and ``cohort.csv``. Finished slides
    stay, whatever ends the run.

    Args:
        jobs: all with the same output folder.
        workers, engine, address, limit_s: as in :func:`preprocess.jobs.run.run_cohort`.

    Returns:
        The summary or the error of each slide, and how many were skipped because they were finished.

    Raises:
        UserError: the output folder cannot be written to, another process is at work in it, or a slide's outputs would
            be named like those of all, of another one, or of another one that was searched before.
        OSError: the disk is full.
    """
    check_names([job.file for job in jobs])
    _check_reserved(jobs)
    _note_copies(jobs)
    with exclusive_use(jobs[0].outputs.folder):
        return _search_pending(jobs, workers, {"engine": engine, "address": address, "limit_s": limit_s})


def _note_copies(jobs: Sequence[SlideJob]) -> None:
    """Say that slides are the same one under several names: what is found there counts as often."""
    first: dict[str | None, SlideJob] = {None: jobs[0]}
    copies = [job for job in jobs if job.content and first.setdefault(job.content, job) is not job]
    if copies:
        one, other = copies[0].file.file_name, first[copies[0].content].file.file_name
        more = f", and {len(copies) - 1} more" if len(copies) > 1 else ""
        note(f"{one} has the same content as {other}{more}: what is found there counts again")


def _search_pending(
    jobs: Sequence[SlideJob], workers: int | None, where: Mapping[str, Any]
) -> tuple[list[SearchOutcome], int]:
    folder, is_local = jobs[0].outputs.folder, where["engine"] == "local"
    summaries = {job: summary for job in jobs if (summary := job.finished()) is not None}
    pending = [job for job in jobs if job not in summaries]
    for job in pending:
        job.check_owner()
    if outdated := [job for job in pending if job.summary_file.exists() and job.searched() is None]:
        note(
            f"{len(outdated)} slides were searched with other options, another model or before: they are searched again"
        )
    run = partial(run_job, bar=not workers and is_local)
    device = jobs[0].search.model.device
    gpus = 1.0 if device.startswith("cuda") else 0.0
    if is_local and (shared := describe_sharing(device, min(workers or 0, len(pending)))):
        note(shared)
    done: list[JobResult[SlideJob, SlideResult]] = []
    if pending:
        done = run_cohort(run, pending, workers, "searching slides", num_gpus=gpus, **where)
    made = {
        job: SearchOutcome(job, outcome.value.summary if outcome.value else None, outcome.error)
        for job, outcome in zip(pending, done, strict=True)
    }
    outcomes = [made.get(job) or SearchOutcome(job, value=summaries[job]) for job in jobs]
    failed = [
        (outcome.item.file.file_name, _as_written(outcome.item.file, outcome.error))
        for outcome in outcomes
        if outcome.error is not None
    ]
    if failed:
        write_csv(folder / FAILED_FILE, pd.DataFrame(failed, columns=["slide", "error"]))
    else:
        (folder / FAILED_FILE).unlink(missing_ok=True)
    write_cohort_index(folder, _summaries(outcomes), failed)
    return outcomes, len(summaries)


def report_search(outcomes: Sequence[SearchOutcome], num_skipped: int, folder: Path, model: str) -> int:
    """Print what was found in each slide and in all, by which model, and what failed; the exit code it asks for."""
    failed = failures(outcomes)
    head = f"{len(outcomes) - len(failed) - num_skipped} slides done, {num_skipped} skipped, {len(failed)} failed"
    head += f"\nmodel: {model}"
    tail = f"{total_line(outcomes)}; results in {folder}" if len(failed) < len(outcomes) else ""
    return report(result_lines(outcomes), failed, len(outcomes), head=head, tail=tail)


def result_lines(outcomes: Sequence[SearchOutcome]) -> list[str]:
    """What was found in each slide, with its warnings."""
    lines = []
    for summary in _summaries(outcomes):
        lines.append(describe(summary))
        lines += [f"  warning: {warning}" for warning in summary["warnings"]]
    return lines


def total_line(outcomes: Sequence[SearchOutcome]) -> str:
    """What was found in all slides, on one line."""
    summaries = _summaries(outcomes)
    counts: Counter[str] = Counter()
    for summary in summaries:
        counts.update(summary["detections"]["by_class"])
    found = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
    return f"{found} in {sum(summary['tissue_mm2'] for summary in summaries):.2f} mm2 of tissue"


def _summaries(outcomes: Sequence[SearchOutcome]) -> list[dict[str, Any]]:
    """Those of the slides that did not fail."""
    return [outcome.value for outcome in outcomes if outcome.value is not None]


def check_writable(folder: Path) -> None:
    """Raise UserError where ``folder`` cannot be made or written to: better now than after the first slide."""
    place = folder.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError("is not a folder", path=place, remedy="give another --output-dir")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(
            "cannot be written to", path=place, remedy="check its permissions, or give another --output-dir"
        )


def _check_reserved(jobs: Sequence[SlideJob]) -> None:
    """UserError where a slide's table or summary would have the name of a file that is about all slides."""
    for job in jobs:
        if names := _RESERVED & {job.output_file("csv").name.lower(), job.summary_file.name.lower()}:
            raise UserError(
                f"one of its outputs would be called {names.pop()}, as one of all slides is",
                path=job.file.path,
                remedy="rename the slide, or give --anonymize",
            )


def _as_written(file: SlideFile, error: str) -> str:
    """``error`` as an output may state it: without folders, and without the slide's own name if that is secret."""
    return without_names(error, [file.path], file.file_name, names=file.alias is not None)
