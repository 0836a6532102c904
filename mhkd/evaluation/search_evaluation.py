"""The detections of a search, scored against the annotations of its slides, in the folder of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mhkd.evaluation.metrics import DRAWS, SlideMetrics
from mhkd.evaluation.plots import PLOTS, write_plots
from mhkd.evaluation.scored_slide import ScoredSlide, read_ground_truth
from mhkd.evaluation.tables import DATA, MARKDOWN, brief_table, write_results
from mhkd.inference.cohort_runner import SearchOutcome
from mhkd.inference.slide_job import SlideJob
from mhkd.inference.slide_runner import open_slide, read_tables
from mhkd.provenance import software
from mhkd.structures import SlideDetections
from preprocess.annotations.class_map import AS_ANNOTATED, ClassMap
from preprocess.base.console import report
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.jobs.job_result import failures
from preprocess.jobs.run import run_cohort
from preprocess.tiles.placement import MAX_MISPLACED
from preprocess.tissue.mask import TissueMask


@dataclass(frozen=True)
class SearchEvaluation:
    """The metrics of a search and the files ``written``.

    Attributes:
        metrics: None where no slide could be scored.
        left_out: the slides that are not in the metrics, and why.
        failed: a line for each slide whose annotation cannot be used.
    """

    metrics: SlideMetrics | None
    written: list[Path]
    left_out: dict[str, str]
    failed: list[str]

    def report(self) -> int:
        """Print a short table, what it is not of and where more is; the exit code that failures ask for."""
        lines = ["no slide could be evaluated"]
        if self.metrics is not None:
            lines = [*brief_table(self.metrics.result).splitlines(), *map(str, self.written)]
        lines += [f"not evaluated: {name} ({reason})" for name, reason in self.left_out.items()]
        return report(lines, self.failed, len(self.failed) + (len(self.metrics.slides) if self.metrics else 0))


def evaluate_search(
    outcomes: Sequence[SearchOutcome],
    output_dir: str | Path,
    *,
    classes: ClassMap = AS_ANNOTATED,
    max_misplaced: float = MAX_MISPLACED,
    draws: int = DRAWS,
) -> SearchEvaluation:
    """Score ``outcomes``, as ``search_slides`` gives them, by the annotations of their slides.

    Tables and plots go into ``output_dir`` (docs/evaluation.md), in the place of those of an earlier evaluation; slides
    are named there as in the other outputs. The detections are read from the slides' files, weak ones too, so that it
    is the same whether they were searched now or before.

    Args:
        classes: which annotations count, as what.
        max_misplaced: the share of a slide's outlines that may lie off the slide or its tissue.
        draws: of the bootstrap by patient.
    """
    for name in (DATA, MARKDOWN, *PLOTS):
        (Path(output_dir) / name).unlink(missing_ok=True)
    left_out: dict[str, str] = {}
    searched: dict[SlideJob, tuple[dict[str, Any], Path]] = {}
    for outcome in outcomes:
        job, annotation = outcome.item, outcome.item.file.annotation
        if outcome.value is None:
            left_out[job.name] = "its search failed"
        elif annotation is None:
            left_out[job.name] = "no annotation"
        else:
            searched[job] = outcome.value, annotation
    score = partial(_score, searched=searched, classes=classes, max_misplaced=max_misplaced)
    read = run_cohort(score, list(searched), description="reading annotations")
    slides = [outcome.value for outcome in read if outcome.value is not None]
    left_out |= {outcome.item.name: "annotation not usable" for outcome in read if outcome.value is None}
    if not slides:
        return SearchEvaluation(None, [], left_out, failures(read))
    summary, _ = next(iter(searched.values()))  # of all: one search has one model and one threshold
    metrics, written = evaluate_detections(
        slides,
        summary["score_thresh"],
        output_dir,
        model={**summary["model"], "settings": summary["settings"]},
        thresh_origin=summary["score_thresh_origin"],
        draws=draws,
        about={
            "left_out": left_out,
            "annotations": {o.item.name: sha256_of(searched[o.item][1]) for o in read if o.value is not None},
            "provenance": software(),
        },
    )
    return SearchEvaluation(metrics, written, left_out, failures(read))


def _score(
    job: SlideJob,
    *,
    searched: Mapping[SlideJob, tuple[dict[str, Any], Path]],
    classes: ClassMap,
    max_misplaced: float,
) -> ScoredSlide:
    """One slide with its true boxes and its detections. Raises UserError or OSError."""
    summary, annotation = searched[job]
    if job.finished() != summary:
        reason = "another process has replaced what was found"
        raise UserError(reason, path=job.summary_file, remedy="run the same command again")
    (found, _), (weak, _) = read_tables(job, summary)
    with open_slide(job) as slide:
        gt = read_ground_truth(
            slide,
            annotation,
            found.class_names,
            classes=classes,
            origin=job.file.origin,
            tissue=TissueMask.of(slide),
            max_misplaced=max_misplaced,
        )
    return ScoredSlide(
        job.name,
        job.file.patient or job.name,
        summary["mpp"],
        summary["tissue_mm2"],
        gt,
        join_at(summary["score_thresh"], found, weak),
        summary["seconds"],
    )


def join_at(score_thresh: float, found: SlideDetections, weak: SlideDetections) -> SlideDetections:
    """All detections of a slide, those ``found`` with ``score_thresh`` or more and the ``weak`` ones below.

    Tables hold four digits of a score, so that one next to the threshold may have been rounded across it: it is put
    back on its side, or the counts would not be those of the outputs.
    """
    below = np.nextafter(score_thresh, -1.0)
    parts = ((found, np.maximum(found.scores, score_thresh)), (weak, np.minimum(weak.scores, below)))
    return SlideDetections.concat(
        [SlideDetections(part.boxes_l0, scores, part.labels, part.class_names) for part, scores in parts]
    )


def evaluate_detections(
    slides: Sequence[ScoredSlide],
    score_thresh: float,
    output_dir: str | Path,
    *,
    model: Mapping[str, Any],
    thresh_origin: str,
    split: str = "all slides",
    draws: int = DRAWS,
    about: Mapping[str, Any] | None = None,
) -> tuple[SlideMetrics, list[Path]]:
    """The metrics of ``slides``, and the files written to ``output_dir``: plots, evaluation.md and evaluation.json.

    Args:
        slides: one or more annotated slides, each once, with all detections, weak ones too.
        score_thresh: where F1 is taken and objects are counted.
        model: as ``mhkd.deploy.detector.describe_detector`` gives it.
        thresh_origin: where ``score_thresh`` comes from, such as ``given`` or ``stored with the model``.
        split: what the tables call the slides.
        draws: of the bootstrap by patient.
        about: plain values that evaluation.json holds, too; the tables name the slides ``left_out``.
    """
    metrics = SlideMetrics.of(slides, score_thresh, draws=draws)
    seconds = [slide.seconds for slide in slides if slide.seconds is not None]
    extra = {"score_thresh_origin": thresh_origin, "seconds_per_slide": round(median(seconds), 3) if seconds else None}
    name = str(model.get("file", "model"))
    models = {name: {**model, "tiles": None, "slides": metrics.result | extra}}
    plots = write_plots(output_dir, {name: metrics})
    results = {"split": split, "models": models, "differences": {}, **(about or {})}
    return metrics, [*plots, *write_results(output_dir, results)]
