"""What inference and evaluation ask of a detector, and the one place that feeds it images."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mhkd.deploy.batch import ImageBatch, send_images
from mhkd.deploy.memory import is_out_of_memory
from mhkd.structures import SlideDetections
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.base.geometry import Region, Size


@dataclass(frozen=True)
class Detector:
    """A loaded model: ``mhkd.deploy.load.load_model`` makes one.

    Attributes:
        model: takes Detectron2's list of dicts, ``image`` an RGB uint8 tensor (3, h, w) at ``input_mpp``, and gives
            ``[{"instances": Instances}]`` with boxes in the pixels of that image.
        input_mpp: um per pixel of its images.
        tile_px: the side that tiles of a slide should have, in input pixels.
        class_names: of its labels, in their order.
        provenance: what training says of it, as plain JSON.
        path: its file.
        score_thresh: the score from which on a detection counts, chosen on validation data; None where that was not
            done.
        is_thread_safe: whether it is allowed and worth while to call ``model`` from several threads at once.
        device: where it wants its images ("cpu", "cuda:1" and so on).
        computed_by: what runs it, on which kind of device and in which precision: scores differ a little with that.
    """

    model: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
    _: KW_ONLY
    input_mpp: float
    tile_px: int
    class_names: tuple[str, ...]
    provenance: dict[str, Any]
    path: Path
    score_thresh: float | None = None
    is_thread_safe: bool = False
    device: str = "cpu"
    computed_by: str = "Detectron2"


DEFAULT_SCORE_THRESH = 0.5


def choose_threshold(given: float | None, stored: float | None, chosen: str | None = None) -> tuple[float, str]:
    """The score from which on a detection counts, and where that number comes from.

    Args:
        given: by the user.
        stored: with the model.
        chosen: how the stored one was chosen, if the model says so (``score_thresh_origin`` of its provenance).
    """
    own = f"stored with the model: {chosen or 'it does not say how it was chosen'}"
    choices = ((given, "given"), (stored, own), (DEFAULT_SCORE_THRESH, "default: the model has none"))
    return next((thresh, origin) for thresh, origin in choices if thresh is not None)


class BatchTooLargeError(UserError):
    """The memory, the accelerator's or the machine's, does not hold the work on a batch."""


def describe_detector(detector: Detector) -> dict[str, Any]:
    """What a result says of the model that made it, as plain JSON: file name and hash, input, classes, provenance."""
    return {
        "file": detector.path.name,
        "sha256": sha256_of(detector.path),
        "input_mpp": detector.input_mpp,
        "class_names": list(detector.class_names),
        "score_thresh": detector.score_thresh,
        "computed_by": detector.computed_by,
        "provenance": detector.provenance,
    }


def detect(
    detector: Detector,
    images: Sequence[np.ndarray] | ImageBatch,
    regions: Sequence[Region],
    *,
    score_thresh: float = 0.0,
) -> list[SlideDetections]:
    """What ``detector`` detects in one batch, by one pass of its model.

    Args:
        images: uint8 RGB arrays (h, w, 3) at the detector's um/px, or what ``mhkd.deploy.batch`` made of such.
        regions: where each image lies in its slide, in level-0 pixels.
        score_thresh: detections that score less are left out, as are those without an area or with a number that is
            not finite.

    Returns:
        The detections of each image, boxes in level-0 pixels.

    Raises:
        BatchTooLargeError: the memory does not hold the batch.
    """
    batch = images if isinstance(images, ImageBatch) else send_images(images, detector.device)
    outputs = _outputs(detector, batch)
    if outputs is None:
        torch.cuda.empty_cache()  # does nothing where there is no GPU
        raise BatchTooLargeError(
            f"the memory does not hold a batch of {len(batch)} tiles",
            remedy="give a smaller --tile-px, or --device cpu",
        )
    return [
        _to_detections(output["instances"], image, region, detector.class_names, score_thresh)
        for output, image, region in zip(outputs, batch.images, regions, strict=True)
    ]


def _outputs(detector: Detector, batch: ImageBatch) -> list[dict[str, Any]] | None:
    """What the model gives; None where the memory does not hold it.

    No error comes out with that, for its traceback would keep all that the failed pass had computed.
    """
    try:
        with torch.inference_mode(), quiet_torch():
            return detector.model(batch.inputs())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


_tracer_log = logging.getLogger("torch.fx._symbolic_trace")
_quiet_lock = threading.Lock()
_quiet = ExitStack()
_quiet_users = 0


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Without torch's advice to those who call it, here Detectron2: no user can follow it.

    Which warnings are shown is decided for the process: the first of several threads that are in here at once sets
    that, and the last one takes it back.
    """
    global _quiet_users
    with _quiet_lock:
        if not _quiet_users:
            _quiet.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", category=UserWarning, module="torch")
            _quiet.callback(_tracer_log.setLevel, _tracer_log.level)
            _tracer_log.setLevel(logging.ERROR)
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if not _quiet_users:
                _quiet.close()


def _to_detections(
    instances: Any, image: torch.Tensor, region: Region, class_names: tuple[str, ...], score_thresh: float
) -> SlideDetections:
    boxes_px = instances.pred_boxes.tensor.detach().double().cpu().numpy()
    scores = instances.scores.detach().double().cpu().numpy()
    labels = instances.pred_classes.detach().cpu().numpy()
    usable = np.isfinite(boxes_px).all(axis=1) & (scores >= score_thresh)  # a NaN score fails the comparison
    usable &= (boxes_px[:, 2:] > boxes_px[:, :2]).all(axis=1)
    boxes_l0 = region.to_l0(boxes_px[usable], Size(width=image.shape[2], height=image.shape[1]))
    return SlideDetections(boxes_l0, scores[usable], labels[usable], class_names)
