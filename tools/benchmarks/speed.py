"""What an iteration of distillation costs, as a ratio to the floor: its parts without distillation.

The floor is the teacher's pyramid without a gradient, and the student's forward and backward pass with its own
detection losses, on the same inputs, by the same weights, in the same process. Both sides do one optimiser step.
They take turns, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from mhkd.config import PhaseSchedule, mhkd_cfg
from mhkd.deploy.detector import quiet_torch
from mhkd.engine.trainer import Trainer, loop_of
from mhkd.modeling.meta_arch import MHKD

WARM_UP, MEMORY_TURNS = 3, 3
"""Turns that do not count, as kernels are chosen at the first call; and turns whose peak memory is taken."""
BATCHES = 8
"""How many different batches come in turn."""

_FEATURE, _LOCAL, _CLS, _BOX = (
    f"MODEL.MHKD.LOSS_WEIGHTS.{name}" for name in ("FEATURE", "LOCAL", "SEMANTIC_CLS", "SEMANTIC_BOX")
)
_ADAPTIVE = {_FEATURE: 1.0, "MODEL.MHKD.BFA.ENABLED": True}
_SEMANTIC = {_LOCAL: 1.0, _CLS: 1.0, _BOX: 1.0, "MODEL.MHKD.BFA.ENABLED": True}
PHASES: dict[str, dict[str, Any]] = {
    "basic": {_FEATURE: 1.0},
    "adaptive": _ADAPTIVE,
    "local": {_LOCAL: 1.0, "MODEL.MHKD.BFA.ENABLED": True},
    "semantic": _SEMANTIC,
    "joint": {**_ADAPTIVE, **_SEMANTIC},
    "mutual": {**_SEMANTIC, "MODEL.MHKD.TEACHER.TRAINABLE": ["roi_heads"]},
    **{f"adaptive-{loss}": {**_ADAPTIVE, "MODEL.MHKD.FEATURE_LOSS": loss} for loss in ("mse", "cwd", "fgd", "mgd")},
    **{f"semantic-{align}": {**_SEMANTIC, "MODEL.MHKD.ALIGN": align} for align in ("iou", "crosskd")},
}
"""What the phases of the method and their alternatives compute; by how much a loss is weighted costs nothing."""


class Floor(nn.Module):
    """The teacher's pyramid without a gradient, and the losses of the student alone, both those of ``distiller``."""

    def __init__(self, distiller: MHKD) -> None:
        super().__init__()
        self.distiller = distiller

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        with self.distiller.student.autocast():
            self.distiller.teacher.pyramid(batched_inputs)
        return self.distiller.student(batched_inputs)


def named_phases(cfg: CfgNode, names: Iterable[str]) -> Iterator[tuple[str, CfgNode]]:
    """The configurations of those of :data:`PHASES`, on top of ``cfg``, whose own phases are left out."""
    for name in names:
        phase = cfg.clone()
        phase.defrost()
        phase.MODEL.META_ARCHITECTURE = "MHKD"
        phase.MODEL.MHKD.PHASES = []
        phase.MODEL.MHKD.LOSS_WEIGHTS = mhkd_cfg().MODEL.MHKD.LOSS_WEIGHTS
        phase.merge_from_list([x for pair in PHASES[name].items() for x in pair])
        yield name, phase


def phases_apart(cfg: CfgNode) -> list[CfgNode]:
    """The phases of the run ``cfg``, each as a run of its own as long as the phase."""
    found = []
    entries = cfg.MODEL.MHKD.PHASES or [{"NAME": "train"}]
    for phase, entry in zip(PhaseSchedule.from_config(cfg).phases, entries, strict=True):
        alone = cfg.clone()
        alone.defrost()
        alone.MODEL.MHKD.PHASES = [entry]
        alone.SOLVER.MAX_ITER = phase.stop - phase.start
        found.append(alone)
    return found


def measure_phase(cfg: CfgNode, iterations: int) -> dict[str, Any]:
    """Time and peak memory of an iteration of a phase and of its floor, in turns over the same batches.

    Args:
        cfg: a phase, with the tiles and the teacher that it trains with.

    Returns:
        ``seconds`` and ``floor_seconds`` (medians); ``ratio``, the median over the turns of the phase by the floor
        beside it, and its ``quartiles``; ``cpu_ratio``, the same of the processor's time, which other processes
        disturb less; ``images_per_s``; ``peak_mb`` and ``floor_peak_mb``, None where the system does not tell.
    """
    loader = iter(Trainer.build_train_loader(cfg))
    batches = [next(loader) for _ in range(min(iterations, BATCHES))]
    distiller = cast(MHKD, Trainer.build_model(cfg))
    optimizer = Trainer.build_optimizer(cfg, distiller)
    # Each batch meets both sides: they go through a copy of the list each.
    sides = {
        "phase": _loop(cfg, distiller, cycle(batches), optimizer).run_step,
        "floor": _loop(cfg, Floor(distiller), cycle(batches), optimizer).run_step,
    }
    with EventStorage(cfg.SOLVER.WARMUP_ITERS), quiet_torch():
        turns = take_turns(sides, iterations, cfg.MODEL.DEVICE)
        peak_mb, floor_peak_mb = (peak_memory_mb(step, cfg.MODEL.DEVICE) for step in sides.values())
    ratios = turns["phase"] / turns["floor"]
    ratio, cpu_ratio = np.median(ratios, axis=0).tolist()
    seconds, floor_seconds = (float(np.median(turns[name][:, 0])) for name in sides)
    return {
        "seconds": seconds,
        "floor_seconds": floor_seconds,
        "ratio": ratio,
        "quartiles": np.quantile(ratios[:, 0], (0.25, 0.75)).tolist(),
        "cpu_ratio": cpu_ratio,
        "images_per_s": cfg.SOLVER.IMS_PER_BATCH / seconds,
        "peak_mb": peak_mb,
        "floor_peak_mb": floor_peak_mb,
    }


def measure_loading(cfg: CfgNode, workers: Sequence[int], iterations: int, blocks: int = 3) -> list[dict[str, Any]]:
    """What training waits for its data with so many loading processes, which take turns in blocks of iterations.

    Returns:
        For each number of ``workers``: ``seconds`` per iteration, ``waiting_ms`` and ``waiting_share`` of it for data,
        ``images_per_s``, and ``start_s`` that the first batch of a block took; medians.
    """
    cfg = cfg.clone()
    cfg.defrost()
    model = Trainer.build_model(cfg)
    optimizer = Trainer.build_optimizer(cfg, model)
    found: dict[int, list[list[tuple[float, float]]]] = {number: [] for number in workers}
    with EventStorage(cfg.SOLVER.WARMUP_ITERS) as storage, quiet_torch():
        for number in [*found] * blocks:
            cfg.DATALOADER.NUM_WORKERS = number
            step = _loop(cfg, model, Trainer.build_train_loader(cfg), optimizer).run_step
            turns = range(WARM_UP + iterations)
            found[number].append([(timed(step, cfg.MODEL.DEVICE)[0], storage.latest()["data_time"][0]) for _ in turns])
    return [_loading(number, np.array(turns), cfg.SOLVER.IMS_PER_BATCH) for number, turns in found.items()]


def _loading(workers: int, turns: np.ndarray, batch_size: int) -> dict[str, Any]:
    """turns: (blocks, iterations, 2), seconds and those of them that were spent waiting for data."""
    seconds, waiting = turns[:, WARM_UP:].reshape(-1, 2).T
    return {
        "workers": workers,
        "seconds": float(np.median(seconds)),
        "waiting_ms": 1000 * float(np.median(waiting)),
        "waiting_share": float(waiting.sum() / seconds.sum()),
        "images_per_s": batch_size / float(np.median(seconds)),
        "start_s": float(np.median(turns[:, 0, 1])),
    }


def take_turns(sides: dict[str, Callable[[], None]], rounds: int, device: str) -> dict[str, np.ndarray]:
    """(rounds, 2) of each side: seconds and processor seconds of its calls. Every other round is in reverse order."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(WARM_UP + rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            seconds = timed(sides[name], device)
            if turn >= WARM_UP:
                taken[name].append(seconds)
    return {name: np.array(seconds) for name, seconds in taken.items()}


def timed(step: Callable[[], None], device: str) -> tuple[float, float]:
    """Seconds of a call and of the processor in it, up to the end of what it started on a GPU."""
    wall, processor = time.perf_counter(), time.process_time()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def peak_memory_mb(step: Callable[[], None], device: str) -> float | None:
    """Peak of a GPU's allocated memory, or of this process's resident memory, over a few calls."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    elif not _reset_peak():
        return None
    for _ in range(MEMORY_TURNS):
        step()
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _reset_peak() -> bool:
    """Give freed memory back and start a new peak; whether this system can."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError):
        return False
    return True


def _loop(cfg: CfgNode, model: nn.Module, batches: Any, optimizer: torch.optim.Optimizer) -> SimpleTrainer:
    """Detectron2's loop with nothing hooked into it."""
    loop = loop_of(cfg)(model, batches, optimizer)
    loop.iter = 0
    return loop
