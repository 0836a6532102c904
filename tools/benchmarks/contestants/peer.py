"""A detector of elsewhere behind what our evaluation asks of one, and how it came about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from detectron2.structures import Boxes, Instances

from preprocess.tiles.manifest import Manifest


@dataclass
class Peer:
    """As ``mhkd.deploy.detector.Detector``; ``start``: weights it began with; ``seconds``, ``cpu_s``: its training."""

    model: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
    start: str
    input_mpp: float
    tile_px: int
    class_names: tuple[str, ...]
    path: Path
    iterations: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    score_thresh: float | None = None
    is_thread_safe: bool = False
    device: str = "cpu"
    computed_by: str = "its own code"
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, **known: Any) -> Peer:
        """A peer that sees the student's tiles of ``manifest``."""
        return cls(
            input_mpp=manifest.student_mpp,
            tile_px=int(manifest.tiles["student_width"].iloc[0]),
            class_names=tuple(manifest.labels),
            **known,
        )

    @contextmanager
    def training(self, iterations: int) -> Iterator[None]:
        """Note what the block takes."""
        started, cpu = time.perf_counter(), time.process_time()
        yield
        self.iterations, self.seconds, self.cpu_s = iterations, time.perf_counter() - started, time.process_time() - cpu


def as_output(boxes: Any, scores: Any, labels: Any, size_hw: tuple[int, int]) -> dict[str, Instances]:
    """What Detectron2's detectors give for an image: boxes (N, 4) xyxy in its pixels, scores and classes (N,)."""
    found = Instances(size_hw)
    found.pred_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.as_tensor(scores, dtype=torch.float32).reshape(-1)
    found.pred_classes = torch.as_tensor(labels, dtype=torch.int64).reshape(-1)
    return {"instances": found}
