"""SAHI's sliced prediction with the same weights: the whole slide as one image in memory, its own merging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sahi.models.base import DetectionModel
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction

from mhkd.deploy.cpu.compiled import freeze_convolutions
from mhkd.deploy.detector import Detector
from mhkd.deploy.detector_file import load_detector
from mhkd.inference.predictor import SCORE_FLOOR
from mhkd.modeling.precision import resolve_precision
from mhkd.structures import SlideDetections
from preprocess.base.geometry import size_at
from preprocess.slides.slide import Slide


class SahiModel(DetectionModel):
    """A detector as SAHI calls it: one slice at a time, RGB uint8 (h, w, 3)."""

    def __init__(self, detector: Detector, score_thresh: float) -> None:
        self.detector = detector
        names = {str(i): name for i, name in enumerate(detector.class_names)}
        super().__init__(confidence_threshold=score_thresh, category_mapping=names, device="cpu", load_at_init=False)

    def perform_inference(self, image: np.ndarray) -> None:
        with torch.inference_mode():
            tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
            self._original_predictions = self.detector.model([{"image": tensor}])

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        shift, full = (shift_amount_list or [[0, 0]]), full_shape_list
        shift = shift[0] if isinstance(shift[0], (list, tuple)) else shift
        full = full[0] if full and isinstance(full[0], (list, tuple)) else full
        found = self._original_predictions[0]["instances"]
        rows = zip(found.pred_boxes.tensor.tolist(), found.scores.tolist(), found.pred_classes.tolist(), strict=True)
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    bbox=box,
                    score=score,
                    category_id=label,
                    category_name=self.detector.class_names[label],
                    shift_amount=shift,
                    full_shape=full,
                )
                for box, score, label in rows
                if score >= self.confidence_threshold and box[2] > box[0] and box[3] > box[1]
            ]
        ]


def predict(slide: Slide, detector: Detector, *, tile_px: int, overlap: float, score_thresh: float) -> SlideDetections:
    """What SAHI finds on ``slide``, read whole at the detector's um/px; level-0 pixels."""
    size = size_at(slide.region, detector.input_mpp, slide.mpp_xy)
    result = get_sliced_prediction(
        slide.read(slide.region, size),
        SahiModel(detector, score_thresh),
        slice_height=tile_px,
        slice_width=tile_px,
        overlap_height_ratio=overlap,
        overlap_width_ratio=overlap,
        perform_standard_pred=False,
        verbose=0,
    )
    found = result.object_prediction_list
    boxes = np.array([item.bbox.to_xyxy() for item in found], dtype=float).reshape(-1, 4)
    scores, labels = [item.score.value for item in found], [item.category.id for item in found]
    return SlideDetections(slide.region.to_l0(boxes, size), np.array(scores), np.array(labels), detector.class_names)


def turns_of_sahi(path: Path, name: str, model: str, overlap: float = 0.25) -> dict[str, Callable[[], SlideDetections]]:
    """SAHI with the tiles of the training set: the checkpoint as it is (``sahi``), and as frozen graphs (``sahi+``)."""
    as_trained = load_detector(model)
    frozen = replace(as_trained, model=freeze_convolutions(as_trained.model, dtype=resolve_precision("auto", "cpu")))

    def run(detector: Detector) -> SlideDetections:
        with Slide.open(path) as slide:
            return predict(slide, detector, tile_px=as_trained.tile_px, overlap=overlap, score_thresh=SCORE_FLOOR)

    return {f"{name} sahi": partial(run, as_trained), f"{name} sahi+": partial(run, frozen)}
