"""A detector over the whole slides of a split: stitched AP, F1 at a threshold fixed beforehand, seconds per slide."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mhkd.evaluation.coco import coco_scores
from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.evaluation.matching import best_f1_thresh, count
from mhkd.structures import SlideDetections
from preprocess.annotations import read_annotations
from preprocess.boxes import BoxIndex, BoxRule, without_doubles
from preprocess.class_map import AS_ANNOTATED, ClassMap, spread_ignored
from preprocess.console import progress
from preprocess.errors import UserError
from preprocess.files import safe_name
from preprocess.origin import to_slide_frame
from preprocess.slide import Slide

DEFAULT_SCORE_THRESH = 0.5
BOX_RULE = BoxRule()  # an object with less than half of it on the slide need not be found

Predict = Callable[[Slide], SlideDetections]


def evaluate_slides(
    predict: Predict,
    slides: pd.DataFrame,
    split: str,
    class_names: Sequence[str],
    *,
    classes: ClassMap = AS_ANNOTATED,
    score_thresh: float | None = None,
    description: str = "slides",
) -> dict[str, Any]:
    """Scores of ``predict`` on the annotated slides of ``split``, as plain JSON; AP and F1 in percent.

    slides: a table as ``read_slides_csv`` gives it. classes: which annotations count, as what. score_thresh: where F1
    is taken; by default the threshold that is best on the split ``val``, or 0.5 where there is no such split or it is
    the one evaluated. Slides without an annotation file are counted, not scored. Raises UserError where the split has
    no annotated slide, or a slide or annotation is not readable: an average over fewer slides would pass for another
    figure.
    """
    rows = annotated_slides(slides, split)
    val = slides.iloc[:0] if split == "val" or score_thresh is not None else _with_annotation(slides, "val")
    # Before the long work, so that errors come early.
    truth, val_truth = read_truth(rows, class_names, classes), read_truth(val, class_names, classes)
    origin = "given" if score_thresh is not None else "default"
    if len(val):
        found, _ = predict_slides(predict, val, f"{description}, val")
        best = best_f1_thresh(val_truth, found)
        score_thresh, origin = (best, "best F1 on val") if best is not None else (None, "default")
    thresh = DEFAULT_SCORE_THRESH if score_thresh is None else score_thresh
    pred, seconds = predict_slides(predict, rows, f"{description}, {split}")
    names = rows["slide"].map(safe_name)
    patients = rows["patient"].fillna(names).groupby(names).first()
    return {
        **score(truth, pred, thresh),
        "score_thresh": thresh,
        "score_thresh_origin": origin,
        "seconds_per_slide": round(statistics.median(seconds.values()), 3),
        "num_slides": len(rows),
        "num_slides_without_annotation": int((slides["split"] == split).sum()) - len(rows),
        "by_patient": {
            str(patient): {"slides": sorted(members), **score({n: truth[n] for n in members}, pred, thresh)}
            for patient, members in patients.groupby(patients).groups.items()
        },
        "by_slide": {n: {**score({n: truth[n]}, pred, thresh), "seconds": round(seconds[n], 3)} for n in sorted(truth)},
    }


def score(gt: Mapping[str, GroundTruth], pred: Mapping[str, SlideDetections], score_thresh: float) -> dict[str, Any]:
    """AP, and precision, recall and F1 at IoU 0.5 and ``score_thresh``, in percent, over the slides of ``gt``."""
    counts = count(gt, pred, score_thresh)
    rates = {"precision": counts.precision, "recall": counts.recall, "F1": counts.f1}
    return {
        **coco_scores(gt, {name: pred[name] for name in gt}),
        **{name: None if rate is None else 100 * rate for name, rate in rates.items()},
        "num_objects": counts.num_objects,
        "true_positives": counts.true_positives,
        "false_positives": counts.false_positives,
    }


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


def read_truth(
    rows: pd.DataFrame, class_names: Sequence[str], classes: ClassMap = AS_ANNOTATED
) -> dict[str, GroundTruth]:
    """The boxes of the annotated objects by slide name; opens every slide once, so that a bad one is found early."""
    truth = {}
    for row in rows.itertuples(index=False):
        with _open(row) as slide:
            origin = getattr(row, "origin", None)
            mapped = classes.apply(read_annotations(Path(str(row.annotation)), slide)).annotations
            annotations = without_doubles(to_slide_frame(mapped, slide, None if pd.isna(origin) else origin))
            found = BoxIndex(annotations, BOX_RULE).boxes(slide.region)
            boxes = [(box, label) for box in found for label in spread_ignored(box.label, class_names)]
            try:
                truth[slide.name] = GroundTruth.of(
                    [box.xyxy for box, _ in boxes],
                    [label for _, label in boxes],
                    class_names,
                    [box.ignore for box, _ in boxes],
                )
            except UserError as error:
                raise UserError(error.reason, path=str(row.annotation), remedy=error.remedy) from None
    return truth


def predict_slides(
    predict: Predict, rows: pd.DataFrame, description: str
) -> tuple[dict[str, SlideDetections], dict[str, float]]:
    """Detections and wall-clock seconds, opening and reading included, by slide name."""
    pred, seconds = {}, {}
    for row in progress(rows.itertuples(index=False), total=len(rows), description=description, unit="slide"):
        start = time.perf_counter()
        with _open(row) as slide:
            pred[slide.name] = predict(slide)
            seconds[slide.name] = time.perf_counter() - start
    return pred, seconds


def _with_annotation(slides: pd.DataFrame, split: str) -> pd.DataFrame:
    return slides[(slides["split"] == split) & slides["annotation"].notna()]


def _open(row: Any) -> Slide:
    return Slide.open(row.slide, mpp=None if pd.isna(row.mpp) else float(row.mpp))
