"""A machine with two GPUs, for worker processes: one that imports this believes that torch sees them."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import torch

from tests.blobs import BlobDetector

if multiprocessing.parent_process() is not None:
    torch.cuda.device_count = lambda: 2


def load_and_note_device(path: Path, device: str, *, backend: str) -> BlobDetector:
    """A detector on the CPU; ``device``, where it should have been, goes into a line beside ``path``."""
    with path.with_suffix(".devices").open("a") as stream:
        stream.write(f"{device}\n")
    return BlobDetector()
