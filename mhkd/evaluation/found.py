"""Detections that are at hand, scored against annotations: what ``tools/evaluate.py`` writes, without a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mhkd.evaluation.metrics import DRAWS, SlideFigures
from mhkd.evaluation.plots import write_plots
from mhkd.evaluation.scored_slide import SlideCase
from mhkd.evaluation.tables import write_results


def evaluate_found(
    cases: Sequence[SlideCase],
    score_thresh: float,
    output_dir: str | Path,
    *,
    model: Mapping[str, Any],
    thresh_origin: str,
    split: str = "all slides",
    draws: int = DRAWS,
    about: Mapping[str, Any] | None = None,
) -> tuple[SlideFigures, list[Path]]:
    """The figures of ``cases``, and the files written to ``output_dir``: plots, evaluation.md and evaluation.json.

    cases: one or more annotated slides, each once, with all detections, also those below ``score_thresh``, where F1 is
    taken and objects are counted. thresh_origin: where that comes from, such as ``given`` or ``stored with the model``.
    model: as ``mhkd.deploy.detector.describe_detector`` gives it. split: what the tables call the slides. draws: see
    ``SlideFigures.of``. about: plain values that evaluation.json holds, too; the tables name the slides ``left_out``.
    """
    figures = SlideFigures.of(cases, score_thresh, draws=draws)
    seconds = [case.seconds for case in cases if case.seconds is not None]
    extra = {"score_thresh_origin": thresh_origin, "seconds_per_slide": round(median(seconds), 3) if seconds else None}
    name = str(model.get("file", "model"))
    models = {name: {**model, "tiles": None, "slides": figures.result | extra}}
    plots = write_plots(output_dir, {name: figures})
    results = {"split": split, "models": models, "differences": {}, **(about or {})}
    return figures, [*plots, *write_results(output_dir, results)]
