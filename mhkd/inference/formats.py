"""The outputs that a slide can have, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mhkd.inference.export.asap import write_asap
from mhkd.inference.export.coco import write_coco
from mhkd.inference.export.csv import write_csv
from mhkd.inference.export.dsa import write_dsa
from mhkd.inference.export.geojson import write_geojson
from mhkd.inference.export.imagescope import write_imagescope
from mhkd.inference.export.record import SlideRecord
from mhkd.inference.overlay import write_overlay
from mhkd.inference.report.slide_report import write_report, write_report_json


@dataclass(frozen=True)
class Format:
    """``write`` puts a record into one file, atomically and always with the same bytes; ``suffix`` ends its name."""

    suffix: str
    write: Callable[[Path, SlideRecord], None]


TABLE = "csv"
"""The format that is always written: the others can be made from it without another search."""

WEAK, WEAK_SUFFIX = "weak", ".weak.csv"
"""Always written, too, and no output to choose: the same table of what scored below the threshold, for evaluation."""

FORMATS = {
    TABLE: Format(".csv", write_csv),
    "geojson": Format(".geojson", write_geojson),
    "coco": Format(".coco.json", write_coco),
    "imagescope": Format(".imagescope.xml", write_imagescope),
    "asap": Format(".asap.xml", write_asap),
    "dsa": Format(".dsa.json", write_dsa),
    "overlay": Format(".overlay.jpg", write_overlay),
    "report": Format(".report.html", write_report),
    "report-json": Format(".report.json", write_report_json),
}
DEFAULT_FORMATS = (TABLE, "geojson", "overlay", "report", "report-json")


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` and the table, each once, in the order of ``FORMATS``; KeyError for an unknown one."""
    wanted = {TABLE, *(name for name in names if FORMATS[name])}
    return tuple(name for name in FORMATS if name in wanted)
