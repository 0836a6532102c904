"""A detector searches the slides that nobody annotated: what it is sure of, and what it is not, to train on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from mhkd.evaluation.matching import Matches, best_f1_thresh, match_all
from mhkd.evaluation.scored_slide import by_name
from mhkd.evaluation.slide_level import evaluated_cohort, read_scored_slides
from mhkd.inference.cohort_runner import search_slides
from mhkd.inference.predictor import SCORE_FLOOR
from mhkd.inference.slide_job import ModelFile, OutputSpec, SearchOptions, SearchSpec, SlideJob, open_predictor
from mhkd.inference.slide_runner import read_tables
from mhkd.structures import SlideDetections
from preprocess.base.errors import UserError
from preprocess.slides.files import is_neutral
from preprocess.slides.search import SlideFile
from preprocess.slides.table import OUTPUT_NAME, slide_rows
from preprocess.tiles.manifest import Manifest
from preprocess.tiles.pseudo_labels import FoundBox, PseudoLabels

MIN_PRECISION, RECALL_SHARE, UNSURE_SHARE = 0.9, 0.99, 0.5


@dataclass(frozen=True)
class Thresholds:
    """From which score on a detection is an object (``sure``), and from which on it may be one (``unsure``).

    ``origin`` says how they were chosen. ``precision`` is that of what is sure and ``recall`` that of all that may be
    an object, both on validation slides; None where nothing was chosen there.
    """

    sure: float
    unsure: float
    origin: str = "given"
    precision: float | None = None
    recall: float | None = None

    @classmethod
    def best(cls, matches: Matches) -> Thresholds:
        """Those that are best on the validation slides of ``matches``.

        Sure is the score with the best F1, or the lowest with a precision of MIN_PRECISION where that is higher. Unsure
        is the score from which on RECALL_SHARE of what is ever found is found, but at most UNSURE_SHARE of the other:
        on a new slide a detector misses more than where its threshold was chosen.

        Raises:
            UserError: no object is found.
        """
        sure = best_f1_thresh(matches)
        if sure is None:
            raise UserError(
                "the model finds no object of the validation slides", remedy="train it longer, or give both thresholds"
            )
        right, wrong = matches.cumulative()
        scores = matches.thresholds()
        precise = scores[right >= MIN_PRECISION * (right + wrong)]
        sure = max(sure, float(precise.min())) if len(precise) else sure
        found = float(scores[right >= RECALL_SHARE * right.max()].max())
        unsure = max(SCORE_FLOOR, min(found, UNSURE_SHARE * sure))
        origin = f"best F1 and precision, and recall, on {len(matches.num_objects)} validation slides"
        return cls(sure, unsure, origin, matches.counts(sure).precision, matches.counts(unsure).recall)


def make_pseudo_labels(
    model: ModelFile,
    table: Path,
    manifest: Manifest,
    folder: Path,
    *,
    workers: int = 0,
    sure_thresh: float | None = None,
    unsure_thresh: float | None = None,
) -> PseudoLabels:
    """Search the unlabelled slides of ``manifest`` with ``model`` and write what is found into ``folder``.

    Slides are searched whole and merged, as :func:`mhkd.inference.cohort_runner.search_slides` does it, into the folder
    search of ``folder``; one that was searched before is not searched again. Where a threshold is not given, so are the
    validation slides, to choose it on.

    Args:
        table: the slides.csv that the tiles were made from.

    Raises:
        UserError: a slide cannot be searched; thresholds that do not go together, or nothing to choose them on.
    """
    unlabelled = manifest.tiles.loc[~manifest.tiles["labelled"], "slide"].unique().tolist()
    thresholds = Thresholds(sure_thresh or 1.0, unsure_thresh or 1.0)
    boxes: dict[str, list[FoundBox]] = {}
    if unlabelled:
        slides, classes = evaluated_cohort(table, manifest)
        names = slides[OUTPUT_NAME]
        slides["mpp"] = slides["mpp"].fillna(names.map(_mpp_of_tiles(manifest)))
        if absent := sorted(set(unlabelled) - set(names)):
            raise UserError(
                f"does not list the slide {absent[0]} of the tiles", path=table, remedy="give the tiles' own table"
            )
        search = SearchSpec(model, SearchOptions(score_thresh=SCORE_FLOOR))
        _check_classes(search, manifest)
        if sure_thresh is None or unsure_thresh is None:
            val = slides[(slides["split"] == "val") & slides["annotation"].notna()]
            if val.empty:
                raise UserError("no annotated validation slide to choose thresholds on", path=table, remedy="give both")
            blank = read_scored_slides(val, manifest.labels, classes)
            seen = _search(val, search, folder, workers)
            scored = [replace(one, detections=seen[one.name]) for one in blank]
            thresholds = Thresholds.best(match_all(*by_name(scored)))
        thresholds = replace(
            thresholds,
            sure=thresholds.sure if sure_thresh is None else sure_thresh,
            unsure=thresholds.unsure if unsure_thresh is None else unsure_thresh,
        )
        if not SCORE_FLOOR <= thresholds.unsure <= thresholds.sure <= 1:
            raise UserError(
                f"the thresholds {thresholds.sure:g} (sure) and {thresholds.unsure:g} (unsure) do not go together",
                remedy=f"give {SCORE_FLOOR:g} <= unsure <= sure <= 1",
            )
        found = _search(slides[names.isin(unlabelled)], search, folder, workers)
        boxes = {name: _boxes(found[name], thresholds.unsure) for name in unlabelled}
    num_sure = sum(score >= thresholds.sure for of_slide in boxes.values() for _, _, score in of_slide)
    counts = {"num_sure": num_sure, "num_unsure": sum(map(len, boxes.values())) - num_sure}
    about = {"thresholds": asdict(thresholds), **counts}
    labels = PseudoLabels(folder, boxes, model.sha256, thresholds.sure, thresholds.unsure, about)
    labels.write()
    return labels


def _mpp_of_tiles(manifest: Manifest) -> dict[str, float]:
    """The um/px of slides that state none, as the command that cut them was given it."""
    inputs = manifest.provenance.get("inputs", [])
    return {one["slide"]: one["mpp"] for one in inputs if one["mpp_source"].startswith("--mpp")}


def _check_classes(search: SearchSpec, manifest: Manifest) -> None:
    names = list(open_predictor(search)[0].detector.class_names)
    if names != manifest.labels:
        raise UserError(
            f"the model's classes are {', '.join(names)}, those of the tiles {', '.join(manifest.labels)}",
            path=search.model.path,
            remedy="name a detector that was trained on tiles with these labels, in this order",
        )


def _search(rows: pd.DataFrame, search: SearchSpec, folder: Path, workers: int) -> dict[str, SlideDetections]:
    """All detections on the slides of ``rows`` by name."""
    outputs = OutputSpec((folder / "search").absolute(), ("csv",))
    files = [
        SlideFile(Path(row["slide"]), row["mpp"], **{"alias" if is_neutral(name) else "label": name})
        for row in slide_rows(rows)
        if (name := row[OUTPUT_NAME])
    ]
    found = {}
    for outcome in search_slides([SlideJob.of(file, search, outputs) for file in files], workers)[0]:
        if outcome.value is None:
            raise UserError(outcome.error or "not searched")
        strong, weak = read_tables(outcome.item, outcome.value)
        found[outcome.item.name] = SlideDetections.concat([strong[0], weak[0]])
    return found


def _boxes(found: SlideDetections, unsure_thresh: float) -> list[FoundBox]:
    kept = found.select(found.scores >= unsure_thresh)
    labels = [kept.class_names[label] for label in kept.labels]
    boxes = [tuple(box) for box in kept.boxes_l0.tolist()]
    return list(zip(labels, boxes, kept.scores.tolist(), strict=True))
