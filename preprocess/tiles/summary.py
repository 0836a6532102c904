"""What a run made of every slide: as text, as a table, and as a page to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pandas as pd

from preprocess.base.files import write_csv, write_text
from preprocess.base.html import jpeg_uri, render
from preprocess.base.images import encode_thumbnail, opencv_name
from preprocess.jobs.job_result import JobResult
from preprocess.slides.table import SPLITS
from preprocess.tiles.pairs import KEPT_KINDS, TILE_KINDS, shown_kinds
from preprocess.tiles.placement import is_odd_size
from preprocess.tiles.writer import SlideJob

TilingResult = JobResult[SlideJob, dict[str, Any]]

COLUMNS = (
    "slide",
    "status",
    "reason",
    "split",
    "labelled",
    "patient",
    "mpp",
    "mpp_source",
    "student_scan",
    "tissue_mm2",
    "tiles",
    *(f"tiles_{kind.replace(' ', '_')}" for kind in TILE_KINDS),
    "boxes",
    "boxes_to_ignore",
    "median_um",
    "outlines",
    "labels",
    "labels_left_out",
    "items_not_used",
)
"""``status`` is done or failed. It describes the data set, not the run: a resumed run leaves the same file."""

_NOTES = {
    "dropped_labels": "labels left out",
    "unmapped_labels": "labels not in the class map, kept",
    "outlines": "outlines",
    "unused": "items of annotation files that are no objects",
}
_THUMBNAIL_PX, _MAX_THUMBNAILS = 260, 200
_COARSE = 1.1
_NAMED = 5
_LONG = ("reason", "mpp_source", "outlines", "labels", "labels_left_out", "items_not_used")


def summary_lines(results: Sequence[TilingResult]) -> list[str]:
    """Totals of the slides that were cut: one line per split, then origins of mpp and labels."""
    records = [(result.item, result.value) for result in results if result.value is not None]
    lines = []
    for split in SPLITS:
        part = [(job, record) for job, record in records if job.split == split]
        if not part:
            continue
        boxes = Counter(box["label"] for _, record in part for box in record["boxes"] if not box["ignore"])
        unlabelled = sum(not job.labelled for job, _ in part)
        kinds = {kind: sum(record["kinds"][kind] for _, record in part) for kind in TILE_KINDS}
        lines.append(
            f"{split}: {len({job.patient for job, _ in part})} patients, {len(part)} slides, "
            f"{f'{unlabelled} of them unlabelled, ' if unlabelled else ''}"
            f"{sum(kinds[kind] for kind in KEPT_KINDS)} tiles "
            f"({', '.join(f'{kind} {kinds[kind]}' for kind in shown_kinds(kinds))}), "
            f"boxes: {_counted(boxes) or 'none'}"
        )
    origins = Counter(record["mpp_source"] for _, record in records)
    if origins:
        lines.append("mpp: " + ", ".join(f"{source} ({count} slides)" for source, count in sorted(origins.items())))
    for key, title in _NOTES.items():
        counted: Counter[str] = sum((Counter(record[key]) for _, record in records), Counter())
        if counted:
            lines.append(f"{title}: {_counted(counted)}")
    odd = [f"{job.name} ({record['median_um']:.0f} um)" for job, record in records if is_odd_size(record["median_um"])]
    if odd:
        more = f", and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
        lines.append(
            "warning: the median object is no usual glomerulus (100 to 300 um), check um/px and frame: "
            f"{', '.join(odd[:_NAMED])}{more}"
        )
    coarse = sum(record["mpp"] > _COARSE * job.spec.teacher_mpp for job, record in records)
    if coarse:
        lines.append(f"warning: {coarse} slides are coarser than the teacher's um/px: up-sampled")
    return lines


def write_summary(results: Sequence[TilingResult], root: Path) -> None:
    """Write ``summary.csv`` and the self-contained ``summary.html``: a row per slide, in the order of ``results``.

    The pictures are thumbnails of the mask pictures, failed slides come first, and of very large data sets
    only the first 200 have theirs in the page. Nothing of a slide's label, macro picture or header is in it.
    """
    table = pd.DataFrame([_row(result) for result in results], columns=list(COLUMNS))
    write_csv(root / "summary.csv", table)
    order = sorted(range(len(results)), key=lambda index: results[index].error is None)
    rows = [
        (table.iloc[index].to_dict(), *(_picture(results[index].item) if place < _MAX_THUMBNAILS else ("", "")))
        for place, index in enumerate(order)
    ]
    text = "\n".join(summary_lines(results))
    page = render("preprocess.tiles", "summary.html", text=text, columns=COLUMNS, long=_LONG, rows=rows)
    write_text(root / "summary.html", page)


def _row(result: TilingResult) -> dict[str, Any]:
    job, record = result.item, result.value
    place = {
        "slide": job.name,
        "reason": job.as_written(result.error or ""),
        "split": job.split,
        "patient": job.patient,
        "labelled": "yes" if job.labelled else "no",
    }
    if record is None:
        return {**dict.fromkeys(COLUMNS, ""), **place, "status": "failed"}
    ignored = sum(box["ignore"] for box in record["boxes"])
    return {
        **place,
        "status": "done",
        "mpp": record["mpp"],
        "mpp_source": record["mpp_source"],
        "student_scan": _scan(record["student_scan"]),
        "tissue_mm2": record["tissue_mm2"],
        "tiles": len(record["tiles"]),
        **{f"tiles_{kind.replace(' ', '_')}": record["kinds"][kind] for kind in TILE_KINDS},
        "boxes": len(record["boxes"]) - ignored,
        "boxes_to_ignore": ignored,
        "median_um": record["median_um"],
        "outlines": _counted(record["outlines"]),
        "labels": _counted(record["labels"]),
        "labels_left_out": _counted(record["dropped_labels"]),
        "items_not_used": _counted(record["unused"]),
    }


def _scan(scan: dict[str, Any] | None) -> str:
    """How a slide's own low-resolution scan lies on it; empty where it has none."""
    return (
        "" if scan is None else f"{scan['source']}: correlation {scan['correlation']}, {scan['residual_px']} px apart"
    )


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count)


def _picture(job: SlideJob) -> tuple[str, str]:
    """The mask picture, small, with its pixels inside, and the address of the large one; empty where there is none."""
    picture = cv2.imread(opencv_name(job.mask_file)) if job.mask_file.is_file() else None
    if picture is None:
        return "", ""
    data = encode_thumbnail(picture.astype(np.uint8, copy=False), _THUMBNAIL_PX)
    return jpeg_uri(data), quote(job.mask_file.relative_to(job.root).as_posix())
