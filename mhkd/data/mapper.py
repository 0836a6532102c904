"""Dataset dict -> model input, both magnifications under one augmentation."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.structures import Boxes, Instances
from fvcore.transforms.transform import TransformList

from mhkd.data.augmentation import Augmentation
from preprocess.base.errors import UserError
from preprocess.base.images import opencv_name

MIN_VISIBLE = 0.5


def read_tile(path: str) -> np.ndarray:
    """A tile image as RGB uint8 (h, w, 3)."""
    image = cv2.imread(opencv_name(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise UserError("tile is missing or damaged", path=path, remedy="make the tiles again")
    return image


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """RGB (h, w, 3) -> uint8 tensor (3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class TilePairMapper:
    """Maps a dict of :func:`mhkd.data.datasets.tile_dicts` to what the models read.

    Adds ``image``, ``instances`` and ``ignored_boxes`` (Boxes in pixels of ``image``) and, with ``with_teacher``,
    ``teacher_image``.
    """

    def __init__(self, *, with_teacher: bool, color_jitter: float, zoom: float = 0.0, low_share: float = 0.0) -> None:
        """``low_share``: in place of so many images stands the pair's low magnification, enlarged to their size."""
        self.with_teacher = with_teacher
        self.color_jitter = color_jitter
        self.zoom = zoom
        self.low_share = low_share

    def __call__(self, tile: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Map one tile; everything random comes from ``rng``."""
        augmentation = Augmentation.draw(rng, self.color_jitter, self.zoom)
        image = read_tile(tile["file_name"])
        if self.low_share and rng.random() < self.low_share:
            low = read_tile(tile["student_file_name"])
            image = cv2.resize(low, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        transforms = augmentation.build(image)
        image = transforms.apply_image(image)
        instances, ignored = ground_truth(tile["annotations"], transforms, image.shape[:2])
        mapped = {
            "tile_id": tile["tile_id"],
            "height": image.shape[0],
            "width": image.shape[1],
            "image": to_tensor(image),
            "instances": instances,
            "ignored_boxes": ignored,
        }
        if self.with_teacher:
            teacher_image = read_tile(tile["teacher_file_name"])
            mapped["teacher_image"] = to_tensor(augmentation.build(teacher_image).apply_image(teacher_image))
        return mapped


def ground_truth(
    annotations: list[dict[str, Any]], transforms: TransformList, size_hw: tuple[int, int]
) -> tuple[Instances, Boxes]:
    """The annotations after ``transforms``, in pixels of an image of ``size_hw``; what has left it is left out.

    Returns:
        The objects as Detectron2 Instances (gt_boxes, gt_classes, and gt_weights where they have a score), and the
        boxes to be ignored, which are neither object nor background: those marked ``iscrowd``, and those of which less
        than half is left in the image after a zoom, as of one that a tile's border cuts.
    """
    objects: list[dict[str, Any]] = []
    ignored: list[dict[str, Any]] = []
    for annotation in annotations:
        whole = transforms.apply_box(np.array([annotation["bbox"]]))[0]
        moved = detection_utils.transform_instance_annotations(dict(annotation), transforms, size_hw)
        is_visible = _area(moved["bbox"]) >= MIN_VISIBLE * _area(whole)
        (objects if is_visible and not annotation["iscrowd"] else ignored).append(moved)
    instances, others = (_instances(kind, size_hw) for kind in (objects, ignored))
    return instances, others.gt_boxes


def _instances(objects: list[dict[str, Any]], size_hw: tuple[int, int]) -> Instances:
    instances = detection_utils.annotations_to_instances(objects, size_hw)
    if any("score" in item for item in objects):
        instances.gt_weights = torch.tensor([item["score"] for item in objects], dtype=torch.float32)
    return detection_utils.filter_empty_instances(instances)


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
