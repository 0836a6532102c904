"""The report on one slide: a page to read and the same as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mhkd.inference.export.features import class_color, hex_color
from mhkd.inference.export.record import SlideRecord
from mhkd.inference.overlay import draw_overlay
from mhkd.inference.report.crops import crop_detection
from mhkd.inference.report.histogram import bars, tallest_bin
from mhkd.inference.report.statistics import describe_slide
from preprocess.base.files import write_json, write_text
from preprocess.base.html import jpeg_uri, render
from preprocess.base.images import encode_preview

MAX_CROPS = 2000
"""A page with more pictures would be too large for a browser; the JSON file and the tables have all detections."""

_OVERVIEW_PX = 1400


def write_report_json(path: str | Path, record: SlideRecord) -> None:
    """Write what :func:`mhkd.inference.report.statistics.describe_slide` says of ``record``, atomically."""
    write_json(path, describe_slide(record))


def write_report(path: str | Path, record: SlideRecord) -> None:
    """Write the page on ``record``, atomically.

    It stands alone: pictures are inside, nothing is loaded, no script runs. Nothing of the slide's label, macro
    picture or header is in it, and it calls the slide ``record.file_name``. The bytes are the same for the same
    record.

    Raises:
        UserError: the slide cannot be read.
        OSError: the page cannot be written.
    """
    report, summary = describe_slide(record), record.summary
    overview = draw_overlay(
        record.slide, record.detections, max_side_px=_OVERVIEW_PX, unreadable_l0=record.unreadable_l0
    )
    page = render(
        "mhkd.inference.report",
        "report.html",
        report=report,
        summary=summary,
        file_name=record.file_name,
        colors=defaultdict(str, {name: hex_color(i) for i, name in enumerate(record.detections.class_names)}),
        overview=jpeg_uri(encode_preview(overview)),
        diameters=_chart(report["diameter_um"], "um"),
        scores=_chart(report["score"], ""),
        crops=list(_crops(record, report)),
        model=list(flatten(summary["model"])),
        settings=list(flatten(summary["settings"])),
        software=list(flatten(summary["provenance"])),
    )
    write_text(path, page)


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested mappings as (path of keys, text), in their order."""
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, Mapping):
            yield from flatten(item, f"{name}: ")
        else:
            text = ", ".join(map(str, item)) if isinstance(item, list | tuple) else str(item)
            yield name, "none" if item is None else text


def _chart(histogram: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """What the template draws: bars, the number at the top of the axis, and labels below every fifth edge."""
    edges = histogram["edges"]
    step = 1000 / len(edges)  # one bin more than there are between the edges: what lies above
    ticks = [(round(index * step, 2), f"{edge:g}") for index, edge in enumerate(edges) if index % 5 == 0]
    drawn = bars(histogram, f" {unit}" if unit else "")
    return {"bars": drawn, "most": tallest_bin(histogram), "ticks": ticks, "unit": unit}


def _crops(record: SlideRecord, report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    found = record.detections
    for index, detection in enumerate(report["detections"][:MAX_CROPS]):
        crop = crop_detection(record.slide, found.boxes_l0[index].tolist(), class_color(int(found.labels[index])))
        yield {"number": index + 1, "picture": jpeg_uri(encode_preview(crop)), **detection}
