"""Runs of the peers: each trained on the student's tiles and scored on whole slides as our own detectors are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mhkd.ablation.report import SCORES, markdown_table, number, spread
from mhkd.ablation.runner import RESULT_FILE, finished_result, score_detector
from mhkd.ablation.table import Recipe
from mhkd.deploy.detector import Detector
from mhkd.deploy.load import load_model
from mhkd.provenance import software
from preprocess.base.files import sha256_of, write_json
from preprocess.tiles.manifest import Manifest
from tools.benchmarks.contestants import enlarged, torchvision_rcnn, ultralytics_yolo
from tools.benchmarks.contestants.peer import Peer

PEERS = {
    "bilinear": 'HR teacher behind bilinear enlargement (the control "untrained")',
    "bicubic": "HR teacher behind bicubic enlargement",
    "lanczos": "HR teacher behind Lanczos enlargement",
    "sr-light": "HR teacher behind Real-ESRGAN's compact network (x 4; drawings) and bicubic",
    "sr-photo": "HR teacher behind Real-ESRGAN x4plus (photographs) and bicubic; about a second a tile",
    enlarged.TRAINED: "our strict baseline with a bicubic instead of a bilinear input",
    torchvision_rcnn.SCRATCH: "torchvision's Faster R-CNN MobileNetV3 FPN 320 as it comes",
    torchvision_rcnn.IMAGENET: "torchvision's Faster R-CNN FPN on EfficientNet-Lite0, width and RoIs of configs/demo",
    ultralytics_yolo.NAME: "Ultralytics YOLO11n as it comes (installed beside, AGPL-3.0)",
}
FROM_TEACHER = (*enlarged.FILTERS, *enlarged.NETWORKS, enlarged.TRAINED)
"""Those that need the high-resolution teacher."""
TIMED = (torchvision_rcnn.SCRATCH, torchvision_rcnn.IMAGENET)
"""Those that can be given so much time instead of so many iterations."""


@dataclass(frozen=True)
class Job:
    """What all peers share. iterations: of those that begin without the teacher; ``recipe`` has those of the rest.

    budget_s: processor seconds that torchvision's get instead of iterations.
    """

    recipe: Recipe
    slides: Path
    split: str
    iterations: int
    output_dir: Path
    budget_s: float | None = None

    def run(self, name: str, seed: int, teacher: Path | None) -> dict[str, Any]:
        """Train and score one peer, or read what an earlier call left of it."""
        manifest, folder = Manifest.read(self.recipe.tiles), self.output_dir / name / f"seed{seed}"
        key = {
            "tiles": sha256_of(manifest.root / "manifest.csv"),
            "slides": sha256_of(self.slides),
            "split": self.split,
            "teacher": sha256_of(teacher) if teacher and name in FROM_TEACHER else None,
            "iterations": self.recipe.iterations if name == enlarged.TRAINED else self.iterations,
            "cpu_seconds": self.budget_s if name in TIMED else None,
            "overrides": list(self.recipe.overrides) if name == enlarged.TRAINED else [],
        }
        file = folder / RESULT_FILE
        if before := finished_result(file, key):
            return before
        peer = self._train(name, seed, teacher or Path(), manifest, folder)
        result = {
            **{"peer": name, "seed": seed, "start": peer.start, "iterations": peer.iterations},
            **{"seconds": round(peer.seconds, 1), "cpu_s": round(peer.cpu_s, 1), "input_mpp": peer.detector.input_mpp},
            **{"scores": self.score(peer.detector, name), "inputs": key, "provenance": software()},
        }
        write_json(file, result)
        return result

    def score(self, detector: Detector, name: str) -> dict[str, Any]:
        return score_detector(detector, self.slides, Manifest.read(self.recipe.tiles), self.split, name)

    def score_ours(self, name: str, path: Path) -> dict[str, Any]:
        """A trained detector of ours, or an exported one, in the rows of the peers."""
        detector = load_model(path, device=self.recipe.device)
        return {
            **{"peer": name, "seed": detector.provenance.get("seed"), "start": "ours", "iterations": None},
            **{"seconds": None, "cpu_s": None, "input_mpp": detector.input_mpp, "scores": self.score(detector, name)},
        }

    def _train(self, name: str, seed: int, teacher: Path, manifest: Manifest, folder: Path) -> Peer:
        if name == enlarged.TRAINED:
            return enlarged.train_bicubic(manifest, self.recipe, teacher, seed, folder)
        if name in FROM_TEACHER:
            return enlarged.teacher_behind(name, manifest, teacher)
        if name == ultralytics_yolo.NAME:
            return ultralytics_yolo.train(manifest, self.iterations, seed, folder)
        return torchvision_rcnn.train(name, manifest, self.iterations, seed, folder, self.budget_s)


def table(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row a run; AP and F1 in percent, with 95 % intervals of AP by patient."""
    rows = [
        {
            **{key: result[key] for key in ("peer", "seed", "start", "iterations", "input_mpp", "seconds", "cpu_s")},
            **{score: result["scores"][score] for score in SCORES},
            **dict(zip(("AP low", "AP high"), result["scores"]["intervals"].get("AP") or (None, None), strict=True)),
            "s per slide": result["scores"]["seconds_per_slide"],
        }
        for result in results
    ]
    return pd.DataFrame(rows)


def markdown(frame: pd.DataFrame) -> str:
    """One row a peer, mean +- standard deviation over seeds."""
    heads = ["", "begins with", "iterations", "CPU s of training", "seeds", *SCORES, "s per slide"]
    rows = []
    for name, runs in frame.groupby("peer", sort=False):
        cells = [PEERS.get(str(name), str(name)), str(runs["start"].iloc[0])]
        figures = runs[["iterations", "cpu_s", *SCORES, "s per slide"]].apply(pd.to_numeric)
        means, deviations = figures.mean(), figures.std()
        cells += [number(means["iterations"], "{:.0f}"), number(means["cpu_s"], "{:.0f}"), f"{len(runs)}"]
        cells += [spread(means[score], deviations[score]) for score in SCORES]
        rows.append([*cells, number(means["s per slide"], "{:.2f}")])
    return markdown_table(heads, rows, text_columns=2)
