"""What whole-slide inference costs: seconds against the model alone, bytes read, memory of a whole process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mhkd.deploy.detector import detect
from mhkd.evaluation.coco import coco_scores
from mhkd.evaluation.slide_level import read_truth
from mhkd.inference.predictor import SlidePredictor
from mhkd.structures import SlideDetections
from preprocess.base.geometry import Region, Size
from preprocess.base.grid import grid_tiles
from preprocess.slides.readers.jpeg_level import NotPlainError, read_jpeg_levels
from preprocess.slides.readers.openslide import OpenSlideReader
from preprocess.slides.readers.tiff import READER_VARIABLE
from preprocess.slides.slide import Slide
from preprocess.slides.table import read_slides_csv
from preprocess.tissue.mask import TissueMask
from tools.benchmarks.contestants.measure import launch

Turn = Callable[[], SlideDetections | None]


class TilesInMemory:
    """Stands for a slide: gives the tiles that were read from it before."""

    def __init__(self, slide: Slide, tiles: Sequence[Region], size: Size) -> None:
        self.size_um = slide.size_um
        self.images = {tile: slide.read(tile, size) for tile in tiles}

    def read(self, region: Region, size: Size) -> np.ndarray:
        return self.images[region]


def turns_of(predictor: SlidePredictor, path: Path) -> dict[str, Turn]:
    """``whole``: the slide from opening to merged detections. ``model``: its tiles, already read, through the model.

    ``one by one``: the same tiles through the model as Detectron2 runs it, each on all threads.
    """
    with Slide.open(path) as slide:
        tiles = predictor.plan(slide).tiles
        memory: Any = TilesInMemory(slide, tiles, predictor.tile_size(slide))
    step = predictor.batch_size

    def whole() -> SlideDetections:
        with Slide.open(path) as slide:
            return predictor.predict(slide)

    def model() -> None:
        for _ in predictor.search(memory, tiles):
            pass

    def one_by_one() -> None:
        images = list(memory.images.values())
        for i in range(0, len(tiles), step):
            detect(predictor.detector, images[i : i + step], tiles[i : i + step], score_thresh=predictor.score_thresh)

    return {"whole": whole, "model": model, "one-by-one": one_by_one}


def interleave(turns: dict[str, Turn], repeats: int) -> tuple[dict[str, dict[str, float]], dict[str, SlideDetections]]:
    """Medians of wall and CPU seconds of each contestant, which take turns ``repeats`` times after one to warm up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    found: dict[str, SlideDetections] = {}
    for turn in range(repeats + 1):
        for name, run in turns.items():
            wall, cpu = time.perf_counter(), time.process_time()
            result = run()
            if turn:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            if result is not None:
                found[name] = result
    medians = {
        name: dict(zip(("seconds", "cpu_s"), np.median(rows, axis=0).tolist(), strict=True))
        for name, rows in seconds.items()
    }
    return medians, found


def average_precision(path: Path, annotation: Path, found: SlideDetections) -> dict[str, float]:
    """AP, AP50 and AP75 in percent of ``found`` on the slide at ``path``."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "slides.csv")
        table.write_text(f"slide,annotation\n{path.absolute()},{annotation.absolute()}\n", encoding="utf-8")
        truth = read_truth(read_slides_csv(table), found.class_names)
    (name,) = truth
    scores = coco_scores(truth, {name: found})
    return {key: scores[key] or 0.0 for key in ("AP", "AP50", "AP75")}


def bytes_read(path: Path, mpp: float, reader: str) -> int:
    """Bytes that the kernel hands over (Linux, /proc/self/io) while all tissue of a slide is read once at ``mpp``."""
    os.environ[READER_VARIABLE], size = reader, Size(512, 512)
    try:
        with Slide.open(path) as slide:
            mask = TissueMask.of(slide)
            grid = grid_tiles(slide.region, slide.wh_l0(size, mpp))
        tiles = [tile for tile in grid if mask.coverage(tile)]
        with Slide.open(path) as slide:  # nothing of it is in a cache yet
            before = _read_so_far()
            for tile in tiles:
                slide.read(tile, size)
            return _read_so_far() - before
    finally:
        del os.environ[READER_VARIABLE]


def bytes_stored(path: Path) -> dict[str, int]:
    """Bytes of each whole level in the file, by its um/px; none where the levels are no plain JPEG tiles."""
    reference = OpenSlideReader(path)
    try:
        with Slide.open(path) as slide:
            levels = read_jpeg_levels(path, reference.level_sizes)
            mpps = (f"{slide.mpp_xy[0] * factor_x:g}" for factor_x, _ in reference.downsamples)
            return {mpp: int(level.byte_counts.sum()) for mpp, level in zip(mpps, levels, strict=True)}
    except NotPlainError:
        return {}
    finally:
        reference.close()


def peak_mb(path: Path, model: str, options: list[str]) -> float:
    """The peak memory of a process of its own that runs tools/infer_wsi.py, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        tool = [sys.executable, "-m", "tools.infer_wsi", str(path), "--model", model, "--output-dir", folder, *options]
        took = launch(tool, Path(folder), stdout=subprocess.DEVNULL)
    if took["exit_code"]:
        raise subprocess.CalledProcessError(int(took["exit_code"]), tool)
    return took["peak_mb"]


def row(name: str, cost: dict[str, float], reference: dict[str, float], scores: dict[str, Any]) -> str:
    """One line of the Markdown table."""
    cells = [f"{cost['seconds']:.2f}", f"{cost['cpu_s']:.2f}", f"{cost['seconds'] / reference['seconds']:.2f}"]
    cells += [f"{scores[key]:.1f}" if key in scores else "" for key in ("AP", "AP50", "AP75")]
    return f"| {name} | {' | '.join(cells)} |"


def _read_so_far() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])
