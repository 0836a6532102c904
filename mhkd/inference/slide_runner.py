"""One slide from file to results: detections, the chosen outputs and a summary, each complete or absent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mhkd.inference.export.csv import read_csv, write_csv
from mhkd.inference.export.record import SlideRecord, quantized
from mhkd.inference.formats import FORMATS, TABLE, WEAK
from mhkd.inference.fragments import TissueFragments
from mhkd.inference.predictor import SlidePredictor
from mhkd.inference.slide_job import SlideJob, open_predictor
from mhkd.inference.summary import SCHEMA, search_summary
from mhkd.structures import SlideDetections
from preprocess.base.console import progress
from preprocess.base.files import write_json
from preprocess.slides.damaged_slide import DamagedSlide
from preprocess.slides.slide import Slide

_PLURALS = {"glomerulus": "glomeruli"}

Table = tuple[SlideDetections, np.ndarray]
"""Detections, and (N,) the tissue fragment of each."""


@dataclass(frozen=True)
class SlideResult:
    """Detections of one slide in level-0 pixels, and its JSON (:mod:`mhkd.inference.summary`)."""

    name: str
    detections: SlideDetections
    summary: dict[str, Any]


def describe(summary: Mapping[str, Any]) -> str:
    """A summary in plain words, on one line."""
    name, total = summary["name"], summary["detections"]["total"]
    if not summary["tiles"]:
        return f"{name}: no tissue found, so there was nothing to search; the outputs are empty"
    counts = {name.lower(): count for name, count in summary["detections"]["by_class"].items()}
    found = ", ".join(f"{count} {_PLURALS.get(name, name) if count != 1 else name}" for name, count in counts.items())
    found = found if total else f"no {' or '.join(counts)}"
    density = f", {summary['density_per_mm2']:.2f} per mm2" if total and summary["density_per_mm2"] else ""
    return (
        f"{name}: found {found} with a score of {summary['score_thresh']:.3g} or more "
        f"in {summary['tissue_mm2']:.2f} mm2 of tissue{density} ({summary['seconds']:.1f} s)"
    )


def run_job(job: SlideJob, *, bar: bool = False) -> SlideResult:
    """Do what ``job`` asks; ``bar`` shows its progress.

    Where an earlier run found the same, the outputs are written from its tables, without the model.
    """
    summary = job.searched()
    if summary is not None:
        with open_slide(job) as slide:
            return _write(job, slide, *read_tables(job, summary), summary)
    predictor, about = open_predictor(job.search)
    return search_slide(job, predictor, about, bar=bar)


def search_slide(
    job: SlideJob, predictor: SlidePredictor, about: Mapping[str, Any], *, bar: bool = False
) -> SlideResult:
    """Search ``job``'s slide and write its outputs in the place of all that an earlier run left of it.

    Detections below the score threshold are parted from the others after merging: they go into a table of their own
    and no other output. The summary is written last: where it lies, the other files are complete and of the same run.

    Args:
        about: what the summary says of the model and the software.
        bar: show the progress, tile by tile.

    Raises:
        UserError: the slide cannot be read, or the memory does not hold a tile's work.
        OSError: an output cannot be written.
    """
    start = time.perf_counter()
    score_thresh, thresh_origin = job.search.options.threshold(predictor.detector)
    with open_slide(job) as slide:
        plan = predictor.plan(slide)
        shown = progress((), total=len(plan.tiles), description=job.name, unit="tile") if bar else nullcontext()
        with shown as tiles:
            found = predictor.predict(slide, plan, advance=tiles.update if tiles is not None else lambda count: None)
        is_strong = found.scores >= score_thresh
        found, weak = (quantized(found.select(which)) for which in (is_strong, ~is_strong))
        unreadable = slide.unreadable_l0 if isinstance(slide, DamagedSlide) else np.empty((0, 4))
        summary = search_summary(
            slide,
            found,
            plan,
            predictor,
            score_thresh=score_thresh,
            score_thresh_origin=thresh_origin,
            unreadable_l0=unreadable,
            seconds=time.perf_counter() - start,
        )
        pieces = TissueFragments.of(plan.tissue)
        strong, rest = ((part, pieces.containing(part.boxes_l0)) for part in (found, weak))
        return _write(job, slide, strong, rest, {**summary, **about})


def read_tables(job: SlideJob, summary: Mapping[str, Any]) -> tuple[Table, Table]:
    """The detections of an earlier search from its files: from the score threshold on, and below it.

    Raises:
        UserError: a table is missing or damaged.
    """
    class_names = tuple(summary["detections"]["by_class"])
    return read_csv(job.output_file(TABLE), class_names), read_csv(job.weak_file, class_names)


def open_slide(job: SlideJob) -> Slide:
    """The slide as the search reads it. Raises UserError where it cannot be opened."""
    return (DamagedSlide if job.search.options.skip_unreadable else Slide).open(job.file.path, mpp=job.mpp)


def _write(job: SlideJob, slide: Slide, strong: Table, weak: Table, searched: Mapping[str, Any]) -> SlideResult:
    found, fragments = strong
    files = {form: job.output_file(form) for form in job.outputs.formats}
    about = {
        "schema": SCHEMA,
        "name": job.name,
        "slide": job.file.file_name,
        "patient": job.file.patient,
        "anonymized": job.file.alias is not None,
        "content": job.content,
        "place": job.place,
        "files": {form: path.name for form, path in (*files.items(), (WEAK, job.weak_file))},
    }
    summary = {**about, **searched, **about, "key": job.key()}  # what is searched again comes with an earlier ``about``
    record = SlideRecord(
        slide=slide,
        name=job.name,
        file_name=job.file.file_name,
        detections=found,
        fragments=fragments,
        qupath_origin=job.outputs.qupath_origin,
        unreadable_l0=np.array(summary["unreadable_l0"], dtype=np.float64).reshape(-1, 4),
        provenance={
            "model": summary["model"]["file"],
            "model_sha256": summary["model"]["sha256"],
            "score_thresh": summary["score_thresh"],
            "mpp": summary["mpp"],
            "git_commit": summary["provenance"].get("git_commit"),
        },
        summary=summary,
    )
    job.remove_outputs()
    for form, path in files.items():
        FORMATS[form].write(path, record)
    write_csv(job.weak_file, replace(record, detections=weak[0], fragments=weak[1]))
    write_json(job.summary_file, summary)
    return SlideResult(job.name, found, summary)
