"""Training in several processes, on one machine or on more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import launch
from torch.multiprocessing.spawn import ProcessException

from mhkd.engine.student_export import DETECTOR_FILE
from mhkd.engine.train import run_training
from preprocess.base.errors import UserError


def launch_training(
    cfg: CfgNode,
    num_gpus: int = 1,
    *,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    until_step: int | None = None,
) -> Path:
    """:func:`mhkd.engine.train.run_training` in ``num_gpus`` processes on each of ``num_machines`` machines.

    With MODEL.DEVICE "cuda" each process has a GPU of its own (NCCL), with "cpu" all share the processor (gloo).
    SOLVER.IMS_PER_BATCH is the batch of all of them together. A loss is averaged over the processes, so what it
    normalises by (PKD's statistics, the number of foreground RoIs) is that of one process. Machines share the output
    folder.

    Args:
        machine_rank: number of this machine, 0 for the first.
        dist_url: where the processes meet, such as "tcp://10.0.0.1:29500"; "auto" on a single machine.

    Raises:
        UserError: what :func:`run_training` raises, a batch that does not divide, or processes that cannot meet.
    """
    processes = num_gpus * num_machines
    if cfg.SOLVER.IMS_PER_BATCH % processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} does not divide among {processes} processes",
            remedy="choose a multiple of the number of processes",
        )
    if num_machines > 1 and dist_url == "auto":
        raise UserError(
            "several machines do not find each other by themselves", remedy="give --dist-url tcp://HOST:PORT"
        )
    device = cfg.MODEL.DEVICE
    if processes > 1 and ":" in device:
        raise UserError(
            f"{processes} processes cannot share the device {device}",
            remedy="give --device cuda, and name the GPUs in the environment variable CUDA_VISIBLE_DEVICES",
        )
    if device == "cuda" and num_gpus > torch.cuda.device_count():
        raise UserError(
            f"{num_gpus} processes want a GPU each, and there are {torch.cuda.device_count()}",
            remedy="give a smaller --num-gpus, or --device cpu",
        )
    try:
        with _gpus_hidden() if processes > 1 and device == "cpu" else nullcontext():
            launch(run_training, num_gpus, num_machines, machine_rank, dist_url, args=(cfg, until_step))
    except ProcessException as error:
        raise UserError(f"a training process failed: {cause_of(str(error))}", path=cfg.OUTPUT_DIR) from None
    folder = Path(cfg.OUTPUT_DIR)
    return (folder if until_step is None else folder / f"step{until_step}") / DETECTOR_FILE


def cause_of(traceback: str) -> str:
    """The message of the exception that ``traceback`` ends with: its first line, as torch adds hints to some."""
    raised = re.findall(r"^(?:[\w.]*\.)?(\w+(?:Error|Exception|Interrupt)): (.+)$", traceback, re.MULTILINE)
    if not raised:
        return traceback.strip().splitlines()[-1]
    name, message = raised[-1]
    return message if name == "UserError" else f"{name}: {message}"


@contextmanager
def _gpus_hidden() -> Iterator[None]:
    """Started in here, a process sees no GPU: Detectron2 takes NCCL, which knows GPUs alone, wherever it sees one."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
