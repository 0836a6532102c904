"""Which GPU a process searches on, where several processes of one machine search at a time."""

from __future__ import annotations

import multiprocessing
import re

import torch


def device_of_process(device: str) -> str:
    """The device that this process searches on.

    Workers on "cuda" take the GPUs of the machine in turn, by the number that ``multiprocessing`` gives each in its
    name: of two GPUs the third worker takes the first again. A device with a number, such as "cuda:1", is that one for
    all workers, and a process that nobody started, or that Ray did, takes the first GPU that it sees.

    Args:
        device: as the user named it.
    """
    count = torch.cuda.device_count() if device == "cuda" else 0
    if not count or multiprocessing.parent_process() is None:
        return device
    number = re.search(r"(\d+)$", multiprocessing.current_process().name)
    return f"cuda:{(int(number[1]) - 1) % count}" if number else device


def describe_sharing(device: str, workers: int) -> str | None:
    """A sentence for users where some of ``workers`` processes share a GPU; None where each has its own or none."""
    if not device.startswith("cuda"):
        return None
    count = torch.cuda.device_count() if device == "cuda" else 1
    if not 0 < count < workers:
        return None
    shared = ("one GPU" if count == 1 else f"{count} GPUs") if device == "cuda" else f"the GPU {device}"
    return f"{workers} workers share {shared}: each loads the model into its memory"
