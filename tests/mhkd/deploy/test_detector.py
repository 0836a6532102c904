from __future__ import annotations

import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from mhkd.deploy.batch import send_images
from mhkd.deploy.detector import BatchTooLargeError, describe_detector, detect, quiet_torch
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region
from tests.blobs import BlobDetector, draw


class Says(BlobDetector):
    """A detector that says the same about every image."""

    def __init__(self, boxes, scores):
        super().__init__()
        self.boxes, self.scores = torch.tensor(boxes), torch.tensor(scores)

    def model(self, inputs):
        labels = torch.zeros(len(self.scores), dtype=torch.int64)
        found = Instances((10, 20), pred_boxes=Boxes(self.boxes), scores=self.scores, pred_classes=labels)
        return [{"instances": found} for _ in inputs]


IMAGE = np.zeros((10, 20, 3), np.uint8)


def test_boxes_come_out_in_level_0_pixels():
    (found,) = detect(Says([[2.0, 1.0, 12.0, 6.0]], [0.5]), [IMAGE], [Region(100, 200, 80, 40)])
    assert found.boxes_l0.tolist() == [[108, 204, 148, 224]]


def test_weak_empty_and_broken_detections_are_left_out():
    nan = float("nan")
    boxes = [
        [0.0, 0.0, 5.0, 5.0],
        [0.0, 0.0, 5.0, 5.0],
        [4.0, 0.0, 4.0, 5.0],
        [0.0, nan, 5.0, 5.0],
        [0.0, 0.0, 5.0, 5.0],
    ]
    (found,) = detect(Says(boxes, [0.9, 0.2, 0.9, 0.9, nan]), [IMAGE], [Region(0, 0, 20, 10)], score_thresh=0.3)
    assert found.boxes_l0.tolist() == [[0, 0, 5, 5]]


def test_a_batch_that_does_not_fit_the_memory_is_explained():
    detector = BlobDetector()

    def model(inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    detector.model = model
    with pytest.raises(UserError, match=r"batch of 1 tiles.*--tile-px"):
        detect(detector, [IMAGE], [Region(0, 0, 20, 10)])


def test_what_a_failed_batch_computed_is_let_go_before_a_smaller_one_is_tried():
    """The traceback of torch's error would hold every feature map of the failed pass."""
    detector, features = BlobDetector(), []

    def model(inputs):
        feature_map = torch.zeros(8)
        features.append(weakref.ref(feature_map))
        raise torch.OutOfMemoryError("CUDA out of memory")

    detector.model = model
    with pytest.raises(BatchTooLargeError) as raised:
        detect(detector, [IMAGE], [Region(0, 0, 20, 10)])
    assert raised.value.__context__ is None
    assert features[0]() is None


def test_images_that_were_sent_ahead_are_detected_in_as_arrays_are():
    image = draw()[400:500, 440:560]
    frame = [Region(0, 0, 120, 100)]
    arrays, sent = (detect(BlobDetector(), images, frame)[0] for images in ([image], send_images([image], "cpu")))
    assert len(arrays) == 1
    np.testing.assert_array_equal(arrays.boxes_l0, sent.boxes_l0)


def test_a_result_names_its_model_by_file_and_hash(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"weights")
    card = describe_detector(BlobDetector(path=tmp_path / "model.pth"))
    assert card["file"] == "model.pth"
    assert len(card["sha256"]) == 64


def test_what_python_warns_of_is_as_before_when_several_threads_were_quiet():
    """The filters are the process's: those who leave first may not take them from the others."""
    before, steps = list(warnings.filters), [Barrier(2) for _ in range(3)]

    def first():
        with quiet_torch():
            steps[0].wait(10)
            steps[1].wait(10)
        steps[2].wait(10)

    def second():
        steps[0].wait(10)
        with quiet_torch():
            steps[1].wait(10)
            steps[2].wait(10)  # the first has left
            return list(warnings.filters)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(first), pool.submit(second)]
        inside = futures[1].result(20)
    assert inside[0][0] == "ignore"
    assert warnings.filters == before
