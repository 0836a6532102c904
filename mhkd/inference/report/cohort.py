"""The slides of a folder side by side: a page that leads to their reports, and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pandas as pd

from mhkd.inference.report.adequacy import LIMITS, SOURCE, rate_adequacy
from preprocess.base.files import write_csv, write_text
from preprocess.base.html import jpeg_uri, render
from preprocess.base.images import encode_thumbnail, opencv_name

INDEX, TABLE = "index.html", "cohort.csv"
"""A slide must not be called as the table's stem: its own table would have the same name."""

_THUMBNAIL_PX, _MAX_THUMBNAILS = 220, 200
_FACTS = ("tissue_mm2", "density_per_mm2", "adequacy", "mpp", "mpp_source", "score_thresh", "warnings")
# Patients are for those who work on with the table; errors have rows of their own.
_NOT_SHOWN = ("name", "patient", "status", "error")


def write_cohort_index(
    output_dir: str | Path, summaries: Iterable[Mapping[str, Any]], failures: Sequence[tuple[str, str]] = ()
) -> None:
    """Write ``index.html`` and ``cohort.csv`` into ``output_dir``, each atomically.

    summaries: those of the slides that were searched (docs/inference.md). failures: name and error of the others, as
    they may be shown; they come first on the page and last in the table. The page links the reports that lie beside
    it, and of very many slides only the first 200 have a picture. The bytes are the same for the same inputs.
    """
    folder, searched = Path(output_dir), list(summaries)
    table = cohort_table(searched, failures)
    write_csv(folder / TABLE, table)
    shown = [name for name in table.columns if name not in _NOT_SHOWN]
    if len(counted := [name for name in shown if name.startswith("count_")]) == 1:
        shown.remove(counted[0])  # it says what "detections" says
    rows = [(row, "", "") for row in table[table["status"] == "failed"].to_dict("records")]
    for place, (summary, row) in enumerate(zip(searched, table.to_dict("records"), strict=False)):
        picture = _picture(_output(folder, summary, "overlay")) if place < _MAX_THUMBNAILS else ""
        report = _output(folder, summary, "report")
        rows.append((row, quote(report.name) if report else "", picture))
    page = render(
        "mhkd.inference.report",
        "cohort.html",
        columns=shown,
        rows=rows,
        totals=_totals(searched, len(failures)),
        warnings=_warnings(searched),
        adequacy_source=SOURCE,
        adequacy_limits=LIMITS,
    )
    write_text(folder / INDEX, page)


def cohort_table(summaries: Sequence[Mapping[str, Any]], failures: Sequence[tuple[str, str]] = ()) -> pd.DataFrame:
    """One row per slide, searched ones first; ``count_<class>`` is 0 where a model does not know the class."""
    classes = list(dict.fromkeys(name for summary in summaries for name in summary["detections"]["by_class"]))
    counts = [f"count_{name}" for name in classes]
    columns = ["name", "slide", "patient", "status", "error", "detections", *counts, *_FACTS]
    rows = []
    for summary in summaries:
        found = summary["detections"]
        row = {name: summary[name] for name in ("name", "slide", "patient", *_FACTS) if name in summary}
        row |= {"status": "done", "detections": found["total"], "adequacy": rate_adequacy(found["total"])["verdict"]}
        row |= {f"count_{name}": found["by_class"].get(name, 0) for name in classes}
        rows.append(row | {"warnings": "; ".join(summary["warnings"])})
    rows += [{"name": name, "slide": name, "status": "failed", "error": error} for name, error in failures]
    full = [{name: "" if row.get(name) is None else row[name] for name in columns} for row in rows]
    return pd.DataFrame(full, columns=columns, dtype=object)


def _totals(summaries: Sequence[Mapping[str, Any]], failed: int) -> list[tuple[str, str]]:
    found = sum(summary["detections"]["total"] for summary in summaries)
    tissue = sum(summary["tissue_mm2"] - summary["unreadable_tissue_mm2"] for summary in summaries)
    verdicts = Counter(rate_adequacy(summary["detections"]["total"])["verdict"] for summary in summaries)
    return [
        (str(len(summaries)), "slides searched" + (f", {failed} failed" if failed else "")),
        (str(found), "found on all of them"),
        (f"{tissue:.2f} mm²", "of tissue searched"),
        (f"{found / tissue:.2f}" if tissue > 0 else "none", "per mm² of tissue"),
        (
            " / ".join(str(verdicts[name]) for name in ("adequate", "marginal", "inadequate")),
            "slides adequate / marginal / inadequate",
        ),
    ]


def _warnings(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What makes slides hard to compare."""
    models = {summary["model"].get("sha256") for summary in summaries}
    thresholds = sorted({summary["score_thresh"] for summary in summaries})
    ways = sorted({summary["model"].get("computed_by", "unknown") for summary in summaries})
    warnings = []
    if len(models) > 1:
        warnings.append(f"The slides were searched with {len(models)} different models: do not compare their counts.")
    if len(thresholds) > 1:
        listed = ", ".join(f"{value:g}" for value in thresholds)
        warnings.append(f"The slides have different score thresholds ({listed}): do not compare their counts.")
    if len(ways) > 1:
        warnings.append(f"The slides were computed in different ways ({'; '.join(ways)}): scores differ a little.")
    return warnings


def _output(folder: Path, summary: Mapping[str, Any], form: str) -> Path | None:
    """The slide's output in this format, if it is there."""
    name = summary.get("files", {}).get(form)
    return folder / name if name and (folder / name).is_file() else None


def _picture(overlay: Path | None) -> str:
    """A slide's overlay, small; empty where there is none."""
    picture = cv2.imread(opencv_name(overlay), cv2.IMREAD_REDUCED_COLOR_2) if overlay else None
    return "" if picture is None else jpeg_uri(encode_thumbnail(picture.astype(np.uint8, copy=False), _THUMBNAIL_PX))
