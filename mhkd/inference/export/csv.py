"""One row per detection: for spreadsheets and scripts, and what all else can be made from again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mhkd.inference.export.features import boxes_um, detection_ids, sizes_um
from mhkd.inference.export.record import SlideRecord
from mhkd.structures import SlideDetections
from preprocess.base.errors import UserError
from preprocess.base.files import write_csv as write_table

_BOX_L0 = ("x0_l0", "y0_l0", "x1_l0", "y1_l0")
_NUMBERS = (
    *_BOX_L0,
    *("center_x_l0", "center_y_l0"),
    *("x0_um", "y0_um", "x1_um", "y1_um"),
    *("width_um", "height_um", "diameter_um"),
)
COLUMNS = ("slide", "id", "class", "score", *_NUMBERS, "fragment")
"""``slide`` is the name of the outputs, so that the tables of a cohort can be put one below the other."""


def write_csv(path: str | Path, record: SlideRecord) -> None:
    """Write the table with ``COLUMNS``, best score first, atomically; without detections it is the header alone.

    Coordinates count from the corner of the slide, in level-0 pixels and in micrometres; ``fragment`` is the number
    of the piece of tissue.
    """
    found, mpp_xy = record.detections, record.slide.mpp_xy
    boxes = found.boxes_l0
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    numbers = np.column_stack((boxes, centers, boxes_um(found, mpp_xy), sizes_um(found, mpp_xy)))
    table = pd.DataFrame(numbers.round(2), columns=list(_NUMBERS))
    table["slide"] = record.name
    table["id"] = detection_ids(found, record.name)
    table["class"] = [found.class_names[label] for label in found.labels]
    table["score"] = found.scores.round(4)
    table["fragment"] = record.fragments
    write_table(Path(path), table[list(COLUMNS)])


def read_csv(path: str | Path, class_names: Sequence[str]) -> tuple[SlideDetections, np.ndarray]:
    """The detections of a table that :func:`write_csv` wrote, and (N,) the tissue fragment of each.

    Raises:
        UserError: the table is missing or damaged, or has a class that is not in ``class_names``.
    """
    path = Path(path)
    label_of = {name: label for label, name in enumerate(class_names)}
    try:
        # A class "NA" is a name; nothing in this table is ever missing.
        table = pd.read_csv(path, keep_default_na=False, dtype={"class": str, "slide": str})
        labels = [label_of[name] for name in table["class"]]
        boxes = table[list(_BOX_L0)].to_numpy(np.float64)
        found = SlideDetections(boxes, table["score"].to_numpy(np.float64), np.array(labels), tuple(class_names))
        return found, table["fragment"].to_numpy(np.int64)
    except FileNotFoundError as error:
        raise UserError("no such table of detections", path=path) from error
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        raise UserError(f"not a table of detections: {error}", path=path, remedy="search the slide again") from error
