"""A detector of elsewhere behind what our evaluation asks of one, and how it came about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.structures import Boxes, Instances

from mhkd.deploy.detector import Detector
from preprocess.tiles.manifest import Manifest


@dataclass
class Peer:
    """``start``: weights it began with; ``iterations``, ``seconds``, ``cpu_s``: its training."""

    detector: Detector
    start: str
    iterations: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    @classmethod
    def of(cls, manifest: Manifest, model: Callable[..., list[dict[str, Any]]], path: Path, start: str) -> Peer:
        """A peer that sees the student's tiles of ``manifest``."""
        detector = Detector(
            model,
            input_mpp=manifest.student_mpp,
            tile_px=int(manifest.tiles["student_width"].iloc[0]),
            class_names=tuple(manifest.labels),
            provenance={},
            path=path,
            computed_by="its own code",
        )
        return cls(detector, start)

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
