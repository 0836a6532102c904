"""What a search of slides found, scored against their annotations, in the folder of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mhkd.evaluation.found import evaluate_found
from mhkd.evaluation.metrics import DRAWS, SlideFigures
from mhkd.evaluation.plots import PLOTS
from mhkd.evaluation.scored_slide import SlideCase, truth_of
from mhkd.evaluation.tables import DATA, MARKDOWN, brief_table
from mhkd.inference.cohort_runner import SearchOutcome
from mhkd.inference.slide_job import SlideJob
from mhkd.inference.slide_runner import open_slide, read_tables
from mhkd.provenance import software
from mhkd.structures import SlideDetections
from preprocess.annotations.class_map import AS_ANNOTATED, ClassMap
from preprocess.base.console import report
from preprocess.base.files import sha256_of
from preprocess.jobs.job_result import failures
from preprocess.jobs.run import run_cohort


@dataclass(frozen=True)
class SearchEvaluation:
    """The figures of a search (None where no slide could be scored) and the files ``written``.

    left_out: the slides that are not in the figures, and why. failed: a line for each whose annotation cannot be used.
    """

    figures: SlideFigures | None
    written: list[Path]
    left_out: dict[str, str]
    failed: list[str]

    def report(self) -> int:
        """Print a short table, what it is not of and where more is; the exit code that failures ask for."""
        lines = ["no slide could be evaluated"]
        if self.figures is not None:
            lines = [*brief_table(self.figures.result).splitlines(), *map(str, self.written)]
        lines += [f"not evaluated: {name} ({reason})" for name, reason in self.left_out.items()]
        return report(lines, self.failed, len(self.failed) + (len(self.figures.cases) if self.figures else 0))


def evaluate_search(
    outcomes: Sequence[SearchOutcome],
    output_dir: str | Path,
    *,
    classes: ClassMap = AS_ANNOTATED,
    draws: int = DRAWS,
) -> SearchEvaluation:
    """Score ``outcomes``, as ``search_slides`` gives them, by the annotations of their slides.

    Tables and plots go into ``output_dir`` (docs/evaluation.md), in the place of those of an earlier evaluation; slides
    are named there as in the other outputs. The detections are read from the slides' files, weak ones too, so that it
    is the same whether they were searched now or before. classes: which annotations count, as what. draws: of the
    bootstrap by patient.
    """
    for name in (DATA, MARKDOWN, *PLOTS):
        (Path(output_dir) / name).unlink(missing_ok=True)
    left_out: dict[str, str] = {}
    searched: list[_Searched] = []
    for outcome in outcomes:
        job, annotation = outcome.item, outcome.item.file.annotation
        if outcome.value is None:
            left_out[job.name] = "its search failed"
        elif annotation is None:
            left_out[job.name] = "no annotation"
        else:
            searched.append(_Searched(job, outcome.value, annotation))
    read = run_cohort(partial(_case, classes=classes), searched, description="reading annotations")
    cases = [outcome.value for outcome in read if outcome.value is not None]
    left_out |= {outcome.item.name: "annotation not usable" for outcome in read if outcome.value is None}
    if not cases:
        return SearchEvaluation(None, [], left_out, failures(read))
    summary = searched[0].summary  # of all: one search has one model and one threshold
    figures, written = evaluate_found(
        cases,
        summary["score_thresh"],
        output_dir,
        model={**summary["model"], "settings": summary["settings"]},
        thresh_origin=summary["score_thresh_origin"],
        draws=draws,
        about={
            "left_out": left_out,
            "annotations": {o.item.name: sha256_of(o.item.annotation) for o in read if o.value is not None},
            "provenance": software(),
        },
    )
    return SearchEvaluation(figures, written, left_out, failures(read))


@dataclass(frozen=True)
class _Searched:
    """An annotated slide with the summary of its search."""

    job: SlideJob
    summary: Mapping[str, Any]
    annotation: Path

    @property
    def name(self) -> str:
        return self.job.name


def _case(searched: _Searched, *, classes: ClassMap) -> SlideCase:
    """What is to be scored of one slide. Raises UserError or OSError."""
    job, summary = searched.job, searched.summary
    (found, _), (weak, _) = read_tables(job, summary)
    with open_slide(job) as slide:
        truth = truth_of(slide, searched.annotation, found.class_names, classes=classes, origin=job.file.origin)
    return SlideCase(
        job.name,
        job.file.patient or job.name,
        summary["mpp"],
        summary["tissue_mm2"],
        truth,
        join_at(summary["score_thresh"], found, weak),
        summary["seconds"],
    )


def join_at(score_thresh: float, found: SlideDetections, weak: SlideDetections) -> SlideDetections:
    """All detections of a slide, parted by ``score_thresh`` as its outputs are.

    Tables hold four digits of a score, so that one next to the threshold may have been rounded across it: it is put
    back on its side, or the counts would not be those of the outputs.
    """
    below = np.nextafter(score_thresh, -1.0)
    parts = ((found, np.maximum(found.scores, score_thresh)), (weak, np.minimum(weak.scores, below)))
    return SlideDetections.concat(
        [SlideDetections(part.boxes_l0, scores, part.labels, part.class_names) for part, scores in parts]
    )
