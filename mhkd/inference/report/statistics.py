"""What a report says of one slide, as numbers: what the page shows and the JSON file holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from mhkd.inference.export.features import iter_rows, sizes_um
from mhkd.inference.export.record import SlideRecord
from mhkd.inference.report.adequacy import rate_adequacy
from mhkd.inference.report.histogram import DIAMETER_EDGES_UM, SCORE_EDGES, count_bins

SCHEMA = "mhkd-report/1"
QUARTILES = (25, 50, 75)


def describe_slide(record: SlideRecord) -> dict[str, Any]:
    """The report on one slide as plain JSON; the same for the same inputs.

    The slide's summary (docs/inference.md) is repeated whole. Densities are per mm2 of tissue that could be read.
    """
    found, summary = record.detections, record.summary
    diameters = sizes_um(found, record.slide.mpp_xy)[:, 2]
    return {
        "schema": SCHEMA,
        "name": record.name,
        "classes": _classes(record, diameters, summary["tissue_mm2"] - summary["unreadable_tissue_mm2"]),
        "adequacy": rate_adequacy(len(found)),
        "diameter_um": count_bins(diameters, found, DIAMETER_EDGES_UM),
        "score": count_bins(found.scores, found, SCORE_EDGES),
        "detections": [
            {
                "id": row.id,
                "class": row.name,
                "score": row.score,
                "box_l0": [round(value, 2) for value in row.box],
                "diameter_um": row.diameter_um,
                "fragment": row.fragment,
            }
            for row in iter_rows(record)
        ],
        "summary": summary,
    }


def _classes(record: SlideRecord, diameters: np.ndarray, searched_mm2: float) -> list[dict[str, Any]]:
    """Count, density, median score and quartiles of the diameter of each class; of all together where they are more."""
    found = record.detections
    groups = [(name, found.labels == label) for label, name in enumerate(found.class_names)]
    if len(groups) > 1:
        groups.append(("all", np.ones(len(found), bool)))
    return [
        {
            "class": name,
            "count": int(which.sum()),
            "density_per_mm2": round(int(which.sum()) / searched_mm2, 4) if searched_mm2 > 0 else None,
            "median_score": round(float(np.median(found.scores[which])), 4) if which.any() else None,
            "diameter_um_quartiles": np.percentile(diameters[which], QUARTILES).round(2).tolist()
            if which.any()
            else None,
        }
        for name, which in groups
    ]
