"""One row per detection, for spreadsheets and scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mhkd.inference.export.features import detection_ids, sizes_um
from mhkd.structures import SlideDetections
from preprocess.files import atomic_path


def write_csv(path: str | Path, detections: SlideDetections, *, slide_name: str, mpp: float) -> None:
    """Write id, class, score, box and centre in level-0 pixels, size in micrometres; atomically.

    mpp: micrometres per level-0 pixel. Without detections the file holds the header alone.
    """
    boxes = detections.boxes_l0
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    numbers = np.column_stack((boxes, centers, sizes_um(detections, mpp)))
    names = ["x0_l0", "y0_l0", "x1_l0", "y1_l0", "center_x_l0", "center_y_l0", "width_um", "height_um", "diameter_um"]
    table = pd.DataFrame(numbers.round(2), columns=names)
    table.insert(0, "id", detection_ids(detections, slide_name))
    table.insert(1, "class", [detections.class_names[label] for label in detections.labels])
    table.insert(2, "score", detections.scores.round(4))
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
