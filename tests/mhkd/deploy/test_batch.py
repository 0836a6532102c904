"""What happens on a GPU itself is in tests/gpu; here the order of the steps, with a GPU that only takes notes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mhkd.deploy import batch
from mhkd.deploy.batch import ImageBatch, send_images

IMAGES = [np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3), np.full((4, 3, 3), 7, np.uint8)]


def test_images_for_a_cpu_are_copied_channels_first():
    sent = send_images(IMAGES, "cpu")
    assert sent.sent is None
    assert len(sent) == 2
    inputs = sent.inputs()
    assert [(one["height"], one["width"]) for one in inputs] == [(2, 5), (4, 3)]
    assert inputs[0]["image"].tolist() == IMAGES[0].transpose(2, 0, 1).tolist()
    assert inputs[0]["image"].is_contiguous()
    before = int(inputs[0]["image"][0, 0, 0])
    IMAGES[0][0, 0, 0] += 1
    assert int(inputs[0]["image"][0, 0, 0]) == before


def test_a_part_has_its_own_images_and_waits_for_the_same_copies(monkeypatch):
    notes = []

    class Stream:
        def wait_event(self, event):
            notes.append(("wait", event))

    class Image:
        device, shape = "cuda:0", (3, 2, 5)

        def record_stream(self, stream):
            notes.append(("keep", self))

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    images = tuple(Image() for _ in range(3))
    part = ImageBatch(images, "copied").part(slice(1, 3))
    assert [one["image"] for one in part.inputs()] == list(images[1:])
    assert notes == [("wait", "copied"), ("keep", images[1]), ("keep", images[2])]


def test_images_stay_on_the_host_where_the_gpu_has_no_room_for_them(monkeypatch):
    def full(images, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(batch, "_send_pinned", full)
    sent = send_images(IMAGES, "cuda:0")
    assert sent.sent is None
    assert [image.device.type for image in sent.images] == ["cpu", "cpu"]


def test_another_error_on_the_way_to_the_gpu_is_not_hidden(monkeypatch):
    def broken(images, device):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(batch, "_send_pinned", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        send_images(IMAGES, "cuda")
