"""COCO average precision in memory, without the limit of 100 detections per image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mhkd.evaluation.scored_slide import GroundTruth
from mhkd.structures import SlideDetections

_ALL_AREAS = [0.0, 1e18]  # COCO's own limit is 1e10 px, which a box on a whole slide may reach
_RECALLS = np.linspace(0.0, 1.0, 101)


def coco_scores(gt: Mapping[str, GroundTruth], pred: Mapping[str, SlideDetections]) -> dict[str, float | None]:
    """AP (mean over IoU 0.5:0.95), AP50 and AP75 in percent, and AR, the mean of the highest recall over those IoUs.

    Args:
        gt: the true objects, perhaps none, of each image by its name; an image is a slide or a tile. Boxes lie in
            level-0 pixels; AP does not change with their scale.
        pred: detections by image, in the same pixels; an image without an entry has none.

    Returns:
        ``AP``, ``AP50``, ``AP75`` and ``AR``, each None where there is no object: precision has no meaning there.

    Raises:
        ValueError: ``pred`` has an image that ``gt`` does not have.
    """
    run = _match(gt, pred)
    if run is None:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"))
    with contextlib.redirect_stdout(io.StringIO()):
        run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]  # (IoU, recall, class, ...), (IoU, class, ...)
    parts = {"AP": precision, "AP50": precision[0], "AP75": precision[5], "AR": recall}
    return {name: _percent(values) for name, values in parts.items()}


class WeightedAP:
    """COCO's AP of the same matches for any weights of the images, as a bootstrap needs it; pycocotools matches once.

    Takes what :func:`coco_scores` takes; image i is that of ``sorted(gt)[i]``.
    """

    def __init__(self, gt: Mapping[str, GroundTruth], pred: Mapping[str, SlideDetections]) -> None:
        run = _match(gt, pred)
        images = [] if run is None else run.evalImgs  # the results of all images, class after class
        self._classes = [_of_class(images[start : start + len(gt)]) for start in range(0, len(images), len(gt))]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """AP, AP50 and AP75 in percent for B weightings of the I images.

        Args:
            weights: (B, I) how many times each image counts.

        Returns:
            (B,) each; NaN where there is no object.
        """
        by_class = np.full((len(self._classes), len(weights), 10), np.nan)
        for table, of_class in zip(by_class, self._classes, strict=True):
            table[:] = of_class.average_precision(weights)
        defined = ~np.isnan(by_class)
        mean = np.where(defined, by_class, 0.0).sum(axis=0) / np.where(defined.any(axis=0), defined.sum(axis=0), np.nan)
        return {"AP": 100 * mean.mean(axis=1), "AP50": 100 * mean[:, 0], "AP75": 100 * mean[:, 5]}


@dataclass(frozen=True)
class _ClassMatches:
    """The detections of one class in all images, best first; right, wrong: (10 IoUs, N); num_objects: (I,)."""

    image: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    num_objects: np.ndarray

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """(B, I) -> (B, 10), from 0 to 1; NaN where there is no object."""
        total = weights @ self.num_objects
        weight = weights[:, self.image]
        result = np.full((len(weights), len(self.right)), np.nan)
        for i, (right, wrong) in enumerate(zip(self.right, self.wrong, strict=True)):
            hits, misses = np.cumsum(weight * right, axis=1), np.cumsum(weight * wrong, axis=1)
            precision = hits / (hits + misses + np.spacing(1))
            envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            envelope = np.pad(envelope, ((0, 0), (0, 1)))  # a recall that is not reached has the precision 0
            for draw in np.flatnonzero(total):
                result[draw, i] = envelope[draw, np.searchsorted(hits[draw] / total[draw], _RECALLS)].mean()
        return result


def _of_class(images: Sequence[dict[str, Any] | None]) -> _ClassMatches:
    """From pycocotools' results of one class that occurs; an image without object and detection has None."""
    filled = [(i, result) for i, result in enumerate(images) if result is not None]
    order = np.argsort(-np.concatenate([result["dtScores"] for _, result in filled]), kind="stable")
    matched = np.concatenate([result["dtMatches"] for _, result in filled], axis=1)[:, order] > 0
    ignored = np.concatenate([result["dtIgnore"] for _, result in filled], axis=1)[:, order].astype(bool)
    num_objects = np.zeros(len(images))
    for i, result in filled:
        num_objects[i] = np.count_nonzero(result["gtIgnore"] == 0)
    image = np.repeat([i for i, _ in filled], [len(result["dtScores"]) for _, result in filled])[order]
    return _ClassMatches(image, matched & ~ignored, ~matched & ~ignored, num_objects)


def _match(gt: Mapping[str, GroundTruth], pred: Mapping[str, SlideDetections]) -> COCOeval | None:
    """pycocotools, up to its matching; None where there is no object."""
    if strangers := sorted(set(pred) - set(gt)):
        raise ValueError(f"detections in images without ground truth: {', '.join(strangers[:3])}")
    images = sorted(gt)
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for i, name in enumerate(images):
        # pycocotools overwrites "ignore" with "iscrowd"
        truth += _entries(i, gt[name], "iscrowd", gt[name].ignore.astype(int))
        if name in pred:
            best_first = pred[name].sort()
            found += _entries(i, best_first, "score", best_first.scores)
    if all(entry["iscrowd"] for entry in truth):
        return None
    categories = sorted({int(entry["category_id"]) for entry in (*truth, *found)})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        run = COCOeval(_index(truth, len(images), categories), _index(found, len(images), categories), "bbox")
        run.params.maxDets = [max(1, len(found))]
        run.params.areaRng, run.params.areaRngLbl = [_ALL_AREAS], ["all"]
        run.evaluate()
    return run


def _entries(image: int, boxes: GroundTruth | SlideDetections, key: str, values: np.ndarray) -> list[dict[str, Any]]:
    """One annotation per box, each with its one of ``values`` as ``key``."""
    low, wh = boxes.boxes_l0[:, :2], boxes.boxes_l0[:, 2:] - boxes.boxes_l0[:, :2]
    rows = zip(np.hstack((low, wh)).tolist(), boxes.labels.tolist(), values.tolist(), strict=True)
    about = {"image_id": image, "iscrowd": 0}
    return [
        {**about, "category_id": label, "bbox": box, "area": box[2] * box[3], key: value} for box, label, value in rows
    ]


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
    """The mean in percent, over the classes that have objects (the others hold -1)."""
    return float(values[values > -1].mean() * 100)
