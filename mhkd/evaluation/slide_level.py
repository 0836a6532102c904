"""A detector over whole slides, of a split or group by group: stitched AP, F1 at a fixed threshold, FROC, counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mhkd.deploy.detector import choose_threshold
from mhkd.evaluation.matching import best_f1_thresh, match_all
from mhkd.evaluation.metrics import DRAWS, SlideMetrics, score
from mhkd.evaluation.scored_slide import GroundTruth, ScoredSlide, by_name, read_ground_truth
from mhkd.structures import SlideDetections
from preprocess.annotations.class_map import AS_ANNOTATED, ClassMap
from preprocess.base.console import progress
from preprocess.base.errors import UserError
from preprocess.slides.files import neutral_name
from preprocess.slides.naming import content_of
from preprocess.slides.slide import Slide
from preprocess.slides.table import OUTPUT_NAME, read_slides_csv
from preprocess.tiles.manifest import Manifest
from preprocess.tiles.placement import MAX_MISPLACED
from preprocess.tissue.mask import TissueMask

VALIDATED = "best F1 on val"
_COLUMNS = ("images", "objects", "AP50", "F1", "centre_F1", "recall", "precision", "missed", "false")

Predict = Callable[[Slide], SlideDetections]


def evaluate_slides(
    predict: Predict,
    slides: pd.DataFrame,
    split: str,
    class_names: Sequence[str],
    *,
    classes: ClassMap = AS_ANNOTATED,
    max_misplaced: float = MAX_MISPLACED,
    score_thresh: float | None = None,
    stored_thresh: float | None = None,
    stored_origin: str | None = None,
    draws: int = DRAWS,
    description: str = "slides",
) -> SlideMetrics:
    """``predict`` scored on the annotated slides of ``split``.

    Slides without an annotation file are counted, not scored.

    Args:
        predict: gives all detections of a slide in level-0 pixels, weak ones too.
        slides: a table as ``read_slides_csv`` gives it.
        class_names: those of the model, in the order of its labels.
        classes: which annotations count, as what.
        max_misplaced: the share of a slide's outlines that may lie off the slide or its tissue.
        score_thresh: where F1 is taken and objects are counted; by default the threshold that is best on the split
            ``val``. Where there is no such split or it is the one evaluated, it is ``stored_thresh``, or else 0.5.
        stored_thresh: that of the model's file, and ``stored_origin`` how it was chosen.
        draws: of the bootstrap by patient.
        description: what the progress bar calls the model.

    Raises:
        UserError: the split has no annotated slide, or a slide or annotation is not readable: an average over fewer
            slides would pass for another result.
    """
    rows = _with_annotation(slides, split)
    if rows.empty:
        raise UserError(
            f"no annotated slide in the split {split!r}",
            remedy="fill the columns split and annotation of the slides table, or choose another split",
        )
    val = slides.iloc[:0] if split == "val" or score_thresh is not None else _with_annotation(slides, "val")
    # Before the long work, so that errors come early.
    blank, blank_val = (read_scored_slides(part, class_names, classes, max_misplaced) for part in (rows, val))
    thresh, origin = choose_threshold(score_thresh, stored_thresh, stored_origin)
    if blank_val:
        best = thresh_of(predict_slides(predict, val, blank_val, f"{description}, val"))
        thresh, origin = (thresh, origin) if best is None else (best, VALIDATED)
    scored = predict_slides(predict, rows, blank, f"{description}, {split}")
    metrics = SlideMetrics.of(scored, thresh, draws=draws)
    about = {
        "score_thresh_origin": origin,
        "seconds_per_slide": round(statistics.median(slide.seconds or 0.0 for slide in scored), 3),
        "num_slides_without_annotation": int((slides["split"] == split).sum()) - len(rows),
    }
    return replace(metrics, result=metrics.result | about)


def thresh_of(scored: Sequence[ScoredSlide]) -> float | None:
    """The score threshold with the highest F1 (IoU 0.5, one to one) over ``scored``; None without a hit."""
    return best_f1_thresh(match_all(*by_name(scored)))


def evaluated_cohort(
    table: str | Path, manifest: Manifest | None, class_map: str | Path | None = None, used: Iterable[str] = ()
) -> tuple[pd.DataFrame, ClassMap]:
    """The slides of ``table`` and the classes that count.

    Args:
        table: a slides.csv.
        manifest: the tiles that were made from it, whose splits, patients and classes fill what is not given.
        class_map: a YAML file of classes, which goes before those of the tiles.
        used: columns of the table that somebody else looks at.

    Raises:
        UserError: the table or the class map cannot be read.
    """
    slides = read_slides_csv(table, used=used)
    classes = AS_ANNOTATED if class_map is None else ClassMap.read(class_map)
    if manifest is None:
        return slides, classes
    made = ClassMap.of(manifest.provenance["parameters"]["classes"])
    return fill_splits(slides, manifest.tiles), made if class_map is None else classes


def fill_splits(slides: pd.DataFrame, tiles: pd.DataFrame) -> pd.DataFrame:
    """``slides`` with the names of a manifest's ``tiles``, and the splits and patients that it leaves open from there.

    Slides are known by name, or by their content where the tiles have neutral names; then their patients have, too.
    """
    by_slide = tiles.groupby("slide")[["split", "patient"]].first()
    names, own = slides[OUTPUT_NAME], slides[list(by_slide)].astype(object)  # a column that is not given is of float
    if not names.isin(by_slide.index).any():  # tiles under neutral names
        neutral = slides["slide"].map(Path).map(content_of).map(neutral_name, na_action="ignore")
        names = neutral.where(neutral.isin(by_slide.index), names)
        own["patient"] = own["patient"].mask(names.isin(by_slide.index))
    filled = {column: own[column].fillna(names.map(by_slide[column])) for column in by_slide}
    return slides.assign(**{OUTPUT_NAME: names, **filled})


def read_scored_slides(
    rows: pd.DataFrame,
    class_names: Sequence[str],
    classes: ClassMap = AS_ANNOTATED,
    max_misplaced: float = MAX_MISPLACED,
) -> list[ScoredSlide]:
    """The annotated slides of ``rows`` without detections yet.

    Raises:
        UserError: a slide or an annotation is not readable, or the one is not of the other.
    """
    scored = []
    for row in rows.to_dict("records"):
        origin, name = row.get("origin"), str(row[OUTPUT_NAME])
        with open_row(row) as slide:
            gt = read_ground_truth(
                slide,
                row["annotation"],
                class_names,
                classes=classes,
                origin=None if pd.isna(origin) else origin,
                tissue=(tissue := TissueMask.of(slide)),
                max_misplaced=max_misplaced,
            )
            patient = name if pd.isna(row["patient"]) else str(row["patient"])
            area_mm2 = tissue.area_um2() / 1e6
            scored.append(ScoredSlide(name, patient, slide.mpp, area_mm2, gt, SlideDetections.empty(class_names)))
    return scored


def read_truth(
    rows: pd.DataFrame, class_names: Sequence[str], classes: ClassMap = AS_ANNOTATED
) -> dict[str, GroundTruth]:
    """The true boxes of the annotated slides of ``rows``, by slide name."""
    return {slide.name: slide.ground_truth for slide in read_scored_slides(rows, class_names, classes)}


def predict_slides(
    predict: Predict, rows: pd.DataFrame, scored: Sequence[ScoredSlide], description: str
) -> list[ScoredSlide]:
    """``scored``, those of ``rows``, with their detections and the seconds that took, opening and reading included."""
    filled = []
    pairs = zip(rows.to_dict("records"), scored, strict=True)
    for row, one in progress(pairs, total=len(rows), description=description, unit="slide"):
        start = time.perf_counter()
        with open_row(row) as slide:
            detections = predict(slide)
        filled.append(replace(one, detections=detections, seconds=time.perf_counter() - start))
    return filled


def _with_annotation(slides: pd.DataFrame, split: str) -> pd.DataFrame:
    return slides[(slides["split"] == split) & slides["annotation"].notna()]


def open_row(row: Mapping[str, Any]) -> Slide:
    """The slide of a row of the slides table, at the um/px that is stated there, if any."""
    return Slide.open(row["slide"], mpp=None if pd.isna(row["mpp"]) else float(row["mpp"]))


def evaluate_groups(
    predict: Predict,
    slides: pd.DataFrame,
    columns: Sequence[str],
    class_names: Sequence[str],
    classes: ClassMap,
    score_thresh: float,
    max_misplaced: float = MAX_MISPLACED,
) -> tuple[pd.DataFrame, float | None]:
    """``predict`` scored on each group of annotated slides with the same values in ``columns``.

    Arguments are those of :func:`evaluate_slides`.

    Returns:
        One row per group, rates in percent, NaN where one has no meaning, with the numbers of objects that were
        ``missed`` and of ``false`` detections at ``score_thresh`` (IoU 0.5); and the threshold that would be best on
        all groups, for those who evaluate validation slides.

    Raises:
        UserError: a column is missing, no slide is annotated, or a slide or annotation is not readable.
    """
    if absent := [column for column in columns if column not in slides]:
        raise UserError(f"the table has no column {absent[0]}", remedy="name columns of the table")
    rows = slides[slides["annotation"].notna()].reset_index(drop=True)
    if rows.empty:
        raise UserError("no slide has an annotation", remedy="fill the column annotation of the table")
    scored = predict_slides(predict, rows, read_scored_slides(rows, class_names, classes, max_misplaced), "slides")
    table = []
    for names, members in rows.groupby(list(columns), sort=False, dropna=False):
        metrics = score([scored[index] for index in members.index], score_thresh)
        missed = metrics["num_objects"] - metrics["true_positives"]
        counts = {"images": len(members), "objects": metrics["num_objects"], "missed": missed}
        about = dict(zip(columns, names, strict=True))
        table.append({**metrics, **about, **counts, "false": metrics["false_positives"]})
    return pd.DataFrame(table, columns=[*columns, *_COLUMNS]), thresh_of(scored)
