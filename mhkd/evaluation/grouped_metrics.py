"""One search of a cohort, scored group by group: by source, by stain, by whatever the table has a column for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mhkd.evaluation.metrics import score
from mhkd.evaluation.slide_level import Predict, predict_slides, read_cases, thresh_of
from preprocess.annotations.class_map import ClassMap
from preprocess.base.errors import UserError

_COLUMNS = ("images", "objects", "AP50", "F1", "centre_F1", "recall", "precision", "missed", "false")


def evaluate_groups(
    predict: Predict,
    slides: pd.DataFrame,
    columns: Sequence[str],
    class_names: Sequence[str],
    classes: ClassMap,
    score_thresh: float,
) -> tuple[pd.DataFrame, float | None]:
    """Figures in percent of each group of annotated ``slides`` (``read_slides_csv``), groups by ``columns``.

    Returns one row per group, with counts at ``score_thresh`` (IoU 0.5) of what was ``missed`` and of ``false``
    detections; and the threshold that would be best on all of them, for those who search validation slides. Figures
    without a meaning (a group without objects) are NaN. Raises UserError where a column is missing or no slide is
    annotated.
    """
    absent = [column for column in columns if column not in slides]
    if absent:
        raise UserError(f"the table has no column {absent[0]}", remedy="name columns of the table")
    rows = slides[slides["annotation"].notna()].reset_index(drop=True)
    if rows.empty:
        raise UserError("no slide has an annotation", remedy="fill the column annotation of the table")
    cases = predict_slides(predict, rows, read_cases(rows, class_names, classes), "slides")
    table = []
    for names, members in rows.groupby(list(columns), sort=False, dropna=False):
        figures = score([cases[index] for index in members.index], score_thresh)
        table.append({**dict(zip(columns, names, strict=True)), **_row(figures, len(members))})
    return pd.DataFrame(table, columns=[*columns, *_COLUMNS]), thresh_of(cases)


def _row(figures: dict[str, Any], num_slides: int) -> dict[str, Any]:
    right, true = figures["true_positives"], figures["num_objects"]
    rates = {name: figures[name] for name in ("AP50", "F1", "centre_F1", "recall", "precision")}
    return {"images": num_slides, "objects": true, **rates, "missed": true - right, "false": figures["false_positives"]}
