"""A detector over the whole slides of a split: stitched AP, F1 at a threshold fixed beforehand, FROC, counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mhkd.deploy.detector import choose_threshold
from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.evaluation.matching import best_f1_thresh, match_all
from mhkd.evaluation.metrics import DRAWS, SlideFigures
from mhkd.evaluation.scored_slide import SlideCase, truth_of
from mhkd.structures import SlideDetections
from preprocess.annotations.class_map import AS_ANNOTATED, ClassMap
from preprocess.base.console import progress
from preprocess.base.errors import UserError
from preprocess.base.files import safe_name
from preprocess.slides.slide import Slide
from preprocess.slides.table import read_slides_csv
from preprocess.tiles.manifest import Manifest
from preprocess.tissue.mask import TissueMask

VALIDATED = "best F1 on val"

Predict = Callable[[Slide], SlideDetections]


def evaluate_slides(
    predict: Predict,
    slides: pd.DataFrame,
    split: str,
    class_names: Sequence[str],
    *,
    classes: ClassMap = AS_ANNOTATED,
    score_thresh: float | None = None,
    stored_thresh: float | None = None,
    stored_origin: str | None = None,
    draws: int = DRAWS,
    description: str = "slides",
) -> SlideFigures:
    """``predict`` scored on the annotated slides of ``split``.

    slides: a table as ``read_slides_csv`` gives it. classes: which annotations count, as what. score_thresh: where F1
    is taken and objects are counted; by default the threshold that is best on the split ``val``. Where there is no such
    split or it is the one evaluated, ``stored_thresh``, that of the model's file (``stored_origin``: how it was
    chosen), or 0.5. draws: of the bootstrap by
    patient. Slides without an annotation file are counted, not scored. Raises UserError where the split has no
    annotated slide, or a slide or annotation is not readable: an average over fewer slides would pass for another
    figure.
    """
    rows = annotated_slides(slides, split)
    val = slides.iloc[:0] if split == "val" or score_thresh is not None else _with_annotation(slides, "val")
    # Before the long work, so that errors come early.
    cases, val_cases = read_cases(rows, class_names, classes), read_cases(val, class_names, classes)
    thresh, origin = choose_threshold(score_thresh, stored_thresh, stored_origin)
    if val_cases:
        best = thresh_of(predict_slides(predict, val, val_cases, f"{description}, val"))
        thresh, origin = (thresh, origin) if best is None else (best, VALIDATED)
    found = predict_slides(predict, rows, cases, f"{description}, {split}")
    figures = SlideFigures.of(found, thresh, draws=draws)
    return replace(
        figures,
        result=figures.result
        | {
            "score_thresh_origin": origin,
            "seconds_per_slide": round(statistics.median(case.seconds or 0.0 for case in found), 3),
            "num_slides_without_annotation": int((slides["split"] == split).sum()) - len(rows),
        },
    )


def thresh_of(cases: Sequence[SlideCase]) -> float | None:
    """The score threshold with the highest F1 (IoU 0.5, one to one) over ``cases``; None without a hit."""
    truth, found = {case.name: case.truth for case in cases}, {case.name: case.found for case in cases}
    return best_f1_thresh(match_all(truth, found))


def evaluated_cohort(
    table: str | Path, manifest: Manifest | None, class_map: str | Path | None = None
) -> tuple[pd.DataFrame, ClassMap]:
    """The slides of ``table`` and the classes that count: as the file ``class_map`` says, or else as the tiles that
    were made from it have them, if any."""
    slides = read_slides_csv(table)
    classes = AS_ANNOTATED if class_map is None else ClassMap.read(class_map)
    if manifest is None:
        return slides, classes
    made = ClassMap.of(manifest.provenance["parameters"]["classes"])
    return fill_splits(slides, manifest.tiles), made if class_map is None else classes


def fill_splits(slides: pd.DataFrame, tiles: pd.DataFrame) -> pd.DataFrame:
    """``slides`` with the splits and patients that it leaves open taken from a manifest's ``tiles``, by slide name."""
    by_slide = tiles.groupby("slide")[["split", "patient"]].first()
    names = slides["slide"].map(safe_name)
    return slides.assign(**{column: slides[column].fillna(names.map(by_slide[column])) for column in by_slide})


def annotated_slides(slides: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of ``split`` that have an annotation file; UserError if there is none."""
    rows = _with_annotation(slides, split)
    if rows.empty:
        raise UserError(
            f"no annotated slide in the split {split!r}",
            remedy="fill the columns split and annotation of the slides table, or choose another split",
        )
    return rows


def read_cases(rows: pd.DataFrame, class_names: Sequence[str], classes: ClassMap = AS_ANNOTATED) -> list[SlideCase]:
    """The annotated slides of ``rows`` with nothing found yet; opens every slide, so that a bad one is found early."""
    cases = []
    for row in rows.itertuples(index=False):
        with _open(row) as slide:
            origin = getattr(row, "origin", None)
            truth = truth_of(
                slide, row.annotation, class_names, classes=classes, origin=None if pd.isna(origin) else origin
            )
            patient = slide.name if pd.isna(row.patient) else str(row.patient)
            area_mm2 = TissueMask.of(slide).area_um2() / 1e6
            cases.append(SlideCase(slide.name, patient, slide.mpp, area_mm2, truth, SlideDetections.empty(class_names)))
    return cases


def read_truth(
    rows: pd.DataFrame, class_names: Sequence[str], classes: ClassMap = AS_ANNOTATED
) -> dict[str, GroundTruth]:
    """The true boxes of the annotated slides of ``rows``, by slide name."""
    return {case.name: case.truth for case in read_cases(rows, class_names, classes)}


def predict_slides(
    predict: Predict, rows: pd.DataFrame, cases: Sequence[SlideCase], description: str
) -> list[SlideCase]:
    """``cases``, those of ``rows``, with what was found in them and the seconds that took, opening and reading
    included."""
    filled = []
    for row, case in progress(
        zip(rows.itertuples(index=False), cases, strict=True), total=len(rows), description=description, unit="slide"
    ):
        start = time.perf_counter()
        with _open(row) as slide:
            found = predict(slide)
        filled.append(replace(case, found=found, seconds=time.perf_counter() - start))
    return filled


def _with_annotation(slides: pd.DataFrame, split: str) -> pd.DataFrame:
    return slides[(slides["split"] == split) & slides["annotation"].notna()]


def _open(row: Any) -> Slide:
    return Slide.open(row.slide, mpp=None if pd.isna(row.mpp) else float(row.mpp))
