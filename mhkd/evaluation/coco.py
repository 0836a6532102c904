"""COCO average precision in memory, without the limit of 100 detections per image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.structures import SlideDetections

CocoScores = dict[str, float | None]

_ALL_AREAS = [0.0, 1e18]  # COCO's own limit is 1e10 px, which a box on a whole slide may reach


def coco_scores(gt: Mapping[str, GroundTruth], pred: Mapping[str, SlideDetections]) -> CocoScores:
    """AP (mean over IoU 0.5:0.95), AP50 and AP75 in percent, and AR, the mean of the highest recall over those IoUs.

    An image is whatever the keys name (slides, tiles); each has ground truth, perhaps empty. One without an entry in
    ``pred`` counts as nothing found there; an entry of an unknown image is a ValueError. Boxes lie in level-0 pixels;
    AP does not change with their scale. None where there is nothing to find: precision has no meaning there.
    """
    if strangers := sorted(set(pred) - set(gt)):
        raise ValueError(f"detections in images without ground truth: {', '.join(strangers[:3])}")
    images = sorted(gt)
    truth = [
        _entry(i, box, label, ignore) for i, name in enumerate(images) for box, label, ignore in _truth_of(gt[name])
    ]
    found = [
        {**_entry(i, box, label, False), "score": score}
        for i, name in enumerate(images)
        if name in pred
        for box, label, score in _found_of(pred[name].sort())
    ]
    if not any(not entry["iscrowd"] for entry in truth):
        return {"AP": None, "AP50": None, "AP75": None, "AR": None}
    categories = sorted({int(entry["category_id"]) for entry in (*truth, *found)})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        run = COCOeval(_index(truth, len(images), categories), _index(found, len(images), categories), "bbox")
        run.params.maxDets = [max(1, len(found))]
        run.params.areaRng, run.params.areaRngLbl = [_ALL_AREAS], ["all"]
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]  # (IoU, recall, class, ...), (IoU, class, ...)
    return {
        "AP": _percent(precision),
        "AP50": _percent(precision[0]),
        "AP75": _percent(precision[5]),
        "AR": _percent(recall),
    }


def _truth_of(gt: GroundTruth) -> Iterable[tuple[list[float], int, bool]]:
    return zip(gt.boxes_l0.tolist(), gt.labels.tolist(), gt.ignore.tolist(), strict=True)


def _found_of(pred: SlideDetections) -> Iterable[tuple[list[float], int, float]]:
    return zip(pred.boxes_l0.tolist(), pred.labels.tolist(), pred.scores.tolist(), strict=True)


def _entry(image: int, box: list[float], label: int, ignore: bool) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    return {
        "image_id": image,
        "category_id": label,
        "bbox": [x0, y0, width, height],
        "area": width * height,
        "iscrowd": int(ignore),  # pycocotools overwrites "ignore" with this
    }


def _index(entries: list[dict[str, Any]], num_images: int, categories: list[int]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(num_images)],
        "categories": [{"id": i} for i in categories],
        "annotations": [{"id": i, **entry} for i, entry in enumerate(entries, start=1)],  # id 0 would mean "no match"
    }
    coco.createIndex()
    return coco


def _percent(values: np.ndarray) -> float:
    """The mean in percent, over the classes that have something to find (the others hold -1)."""
    return float(values[values > -1].mean() * 100)
