"""A detector over the tiles of a manifest's split: what it was trained for, without tiling and merging."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from mhkd.deploy.detector import Detector, detect
from mhkd.evaluation.coco import coco_scores
from mhkd.evaluation.scored_slide import GroundTruth
from mhkd.structures import SlideDetections
from preprocess.base.console import progress
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region
from preprocess.base.images import opencv_name
from preprocess.tiles.manifest import Manifest

MPP_TOLERANCE = 0.01


def evaluate_tiles(
    detector: Detector, manifest: Manifest, split: str, *, batch_size: int = 4, description: str = "tiles"
) -> dict[str, Any]:
    """COCO scores in percent over the tiles of ``split``, as plain JSON; an image is a tile.

    The detector is fed the teacher's or the student's tiles, whichever have its um/px.

    Args:
        batch_size: tiles per step of the model.
        description: what the progress bar calls the model.

    Raises:
        UserError: neither tile has the detector's um/px, the split is empty, or a tile is missing.
    """
    truth, pred = detect_in_tiles(detector, manifest, split, batch_size=batch_size, description=description)
    num_objects = int(sum((~gt.ignore).sum() for gt in truth.values()))
    tiles_of = side_of(detector, manifest)
    return {**coco_scores(truth, pred), "num_tiles": len(truth), "num_objects": num_objects, "tiles_of": tiles_of}


def detect_in_tiles(
    detector: Detector, manifest: Manifest, split: str, *, batch_size: int = 4, description: str = "tiles"
) -> tuple[dict[str, GroundTruth], dict[str, SlideDetections]]:
    """True boxes and detections of each tile of ``split`` by tile id, both in level-0 pixels.

    Arguments and errors are those of :func:`evaluate_tiles`.
    """
    side = side_of(detector, manifest)
    part = manifest.labelled().split(split)
    truth = read_truth(part, detector.class_names)
    rows = list(part.tiles.itertuples(index=False))
    pred: dict[str, SlideDetections] = {}
    with progress((), total=len(rows), description=f"{description}, {split}", unit="tile") as bar:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            images = [_read(manifest, getattr(row, f"{side}_file")) for row in batch]
            regions = [Region(row.x_l0, row.y_l0, row.width_l0, row.height_l0) for row in batch]
            pred.update(zip([row.tile_id for row in batch], detect(detector, images, regions), strict=True))
            bar.update(len(batch))
    return truth, pred


def side_of(detector: Detector, manifest: Manifest) -> str:
    """``teacher`` or ``student``: whose tiles have the um/px that ``detector`` wants; UserError where neither have."""
    for side in ("student", "teacher"):
        if math.isclose(getattr(manifest, f"{side}_mpp"), detector.input_mpp, rel_tol=MPP_TOLERANCE):
            return side
    raise UserError(
        f"the model wants {detector.input_mpp:g} um/px, the tiles have {manifest.teacher_mpp:g} (teacher) "
        f"and {manifest.student_mpp:g} (student)",
        path=manifest.root,
        remedy="make tiles at the model's um/px",
    )


def read_truth(manifest: Manifest, class_names: tuple[str, ...]) -> dict[str, GroundTruth]:
    """The true boxes of every tile of ``manifest`` by tile id, in level-0 pixels, also of tiles without any."""
    columns = ["x0_l0", "y0_l0", "x1_l0", "y1_l0"]
    boxes = dict(list(manifest.boxes.groupby("tile_id")))
    none = manifest.boxes.iloc[:0]
    return {
        tile_id: GroundTruth.of(rows[columns].to_numpy(), rows["label"].tolist(), class_names, rows["ignore"].tolist())
        for tile_id in manifest.tiles["tile_id"]
        for rows in [boxes.get(tile_id, none)]
    }


def _read(manifest: Manifest, name: str) -> np.ndarray:
    path = manifest.root / name
    image = cv2.imread(opencv_name(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if image is None:
        raise UserError("tile missing or not readable", path=path, remedy="make the tiles again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
