"""The images of a batch, assembled for a model and sent ahead to its GPU while that computes another batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mhkd.deploy.memory import is_out_of_memory


def is_gpu(device: str) -> bool:
    """Whether ``device`` ("cpu", "cuda", "cuda:1" and so on) is a GPU of CUDA's."""
    return torch.device(device).type == "cuda"


@dataclass(frozen=True)
class ImageBatch:
    """Images on the device of a model, or on their way there.

    Attributes:
        images: uint8 RGB tensors (3, h, w), one an image.
        sent: the event on the GPU after which the images have arrived; None where nothing is under way.
    """

    images: tuple[Tensor, ...]
    sent: torch.cuda.Event | None = None

    def __len__(self) -> int:
        return len(self.images)

    def part(self, which: slice) -> ImageBatch:
        """Those images of the batch alone."""
        return ImageBatch(self.images[which], self.sent)

    def inputs(self) -> list[dict[str, Any]]:
        """What Detectron2's models take. The stream that computes on the GPU waits for the images, the caller does not.

        To be called by the thread that runs the model.
        """
        if self.sent is not None:
            computing = torch.cuda.current_stream(self.images[0].device)
            computing.wait_event(self.sent)
            for image in self.images:  # its memory belongs to the stream that copied it
                image.record_stream(computing)
        return [{"image": image, "height": image.shape[1], "width": image.shape[2]} for image in self.images]


def send_images(images: Sequence[np.ndarray], device: str) -> ImageBatch:
    """Assemble ``images`` for a model on ``device``; for a GPU they are pinned and sent without waiting.

    The copies have a stream of their own, so that they run beside the batch that the GPU computes. Where its memory has
    no room for them now, they stay on the host, from where the model fetches them itself.

    Args:
        images: uint8 RGB arrays (h, w, 3).
        device: of the model.
    """
    if images and is_gpu(device):
        try:
            return _send_pinned(images, device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    return ImageBatch(tuple(torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images))


def _send_pinned(images: Sequence[np.ndarray], device: str) -> ImageBatch:
    stream = _copy_stream(device)
    with torch.cuda.stream(stream):
        # Pinned memory is used again only after the copy: torch's allocator for it sees to that.
        on_gpu = tuple(_pinned(image).to(stream.device, non_blocking=True) for image in images)
        return ImageBatch(on_gpu, stream.record_event())


def _pinned(image: np.ndarray) -> Tensor:
    """(h, w, 3) -> (3, h, w) in memory that a GPU reads by itself."""
    pinned = torch.empty((image.shape[2], *image.shape[:2]), dtype=torch.uint8, pin_memory=True)
    np.copyto(pinned.numpy(), image.transpose(2, 0, 1))
    return pinned


@cache
def _copy_stream(device: str) -> torch.cuda.Stream:
    """The stream of this process that carries images to ``device``."""
    return torch.cuda.Stream(device)
