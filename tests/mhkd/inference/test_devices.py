from __future__ import annotations

import multiprocessing
from types import SimpleNamespace

import pytest
import torch

from mhkd.inference.devices import describe_sharing, device_of_process


@pytest.fixture
def machine(monkeypatch):
    """``machine(gpus=2, worker=3)``: this process is the third worker on a machine with two GPUs; 0: no worker."""

    def make(gpus, worker):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace() if worker else None)
        name = f"SpawnProcess-{worker}" if worker else "MainProcess"
        monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(name=name))

    return make


def test_workers_take_the_gpus_in_turn(machine):
    devices = []
    for worker in range(1, 6):
        machine(gpus=2, worker=worker)
        devices.append(device_of_process("cuda"))
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "cuda:1"])
def test_a_device_that_the_user_named_is_that_one_for_every_worker(machine, device):
    machine(gpus=4, worker=3)
    assert device_of_process(device) == device


@pytest.mark.parametrize(("gpus", "worker"), [(2, 0), (0, 1)])
def test_a_process_on_its_own_and_one_without_gpus_keep_what_was_asked_for(machine, gpus, worker):
    machine(gpus=gpus, worker=worker)
    assert device_of_process("cuda") == "cuda"


@pytest.mark.parametrize(
    ("device", "workers", "gpus", "sentence"),
    [
        ("cuda", 4, 1, "4 workers share one GPU: each loads the model into its memory"),
        ("cuda", 4, 2, "4 workers share 2 GPUs: each loads the model into its memory"),
        ("cuda:1", 2, 2, "2 workers share the GPU cuda:1: each loads the model into its memory"),
        ("cuda", 2, 2, None),
        ("cuda", 1, 1, None),
        ("cuda", 0, 1, None),
        ("cuda:1", 1, 2, None),
        ("cpu", 4, 1, None),
        ("cuda", 4, 0, None),
    ],
)
def test_it_is_said_where_workers_share_a_gpu(monkeypatch, device, workers, gpus, sentence):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert describe_sharing(device, workers) == sentence
