"""A detector over a whole slide: tissue, overlapping tiles, several in work at once, one box per object."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import torch

from mhkd.deploy.batch import is_gpu, send_images
from mhkd.deploy.detector import BatchTooLargeError, Detector, detect
from mhkd.deploy.load import load_model
from mhkd.inference.merge import merge_tiles
from mhkd.inference.tile_plan import TilePlan, plan_tiles
from mhkd.structures import SlideDetections
from preprocess.base.console import note
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides.slide import Slide
from preprocess.tissue.mask import TissueMask

SCORE_FLOOR = 0.05  # weaker detections are not even merged
LANES = 2
"""So many batches are in the model at once, where it allows that: two cores do more with a tile each than sharing one,
for small convolutions and all that is left of a detector scale badly. Each more would cost its memory."""
READERS = 4
"""So many threads read and send batches beside the one that keeps a GPU busy, or as many as the process has for torch.
Each holds a batch of images, 3 bytes a pixel."""
GPU_BATCH_PX, MAX_GPU_BATCH = 8 * 1024**2, 16
"""A batch on a GPU has so many pixels of the network's input, and at most so many tiles. By reasoning, not measured: a
pass of a detector starts some hundreds of kernels, a few milliseconds whatever their size, in which a GPU computes
about a million pixels; and the feature maps of ResNet-50 in float32 take about half a gigabyte for a million pixels."""
SIDE_STEP_PX = 32
"""Sides of tiles that are cut to a small slide are multiples of this, the coarsest stride of a pyramid."""
MIN_TILE_PX = 32
MAX_OVERLAP = 0.89  # of tiles, as a share of their side: with more there are hundreds for one
OVERLAP_UM = 256.0
"""By how much tiles overlap by default: an object up to this size is whole in one of them."""


class SlidePredictor:
    """Detects objects on whole slides.

    A batch that does not fit the memory is halved, for the rest of the predictor's life.

    Args:
        detector: what detects in a tile.
        tile_px: side of the tiles in the detector's input pixels, by default the one that the detector asks for; on a
            slide that is smaller they are cut to it.
        overlap: of neighbouring tiles, as a share of their side; best not less than the largest object, by default
            OVERLAP_UM but not more than a quarter.
        batch_size: tiles for one pass of the model; by default 1 on a CPU and GPU_BATCH_PX on a GPU.
        score_thresh: detections below it are left out before merging.
        min_tissue: tiles with a smaller share of tissue are skipped.
        merge_rule: see ``mhkd.inference.merge``.

    Raises:
        UserError: an option is out of its range.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        tile_px: int | None = None,
        overlap: float | None = None,
        batch_size: int | None = None,
        score_thresh: float = SCORE_FLOOR,
        min_tissue: float = 0.01,
        merge_rule: str = "edge",
    ) -> None:
        self.detector = detector
        self.tile_px = detector.tile_px if tile_px is None else tile_px
        smallest = min(MIN_TILE_PX, detector.tile_px)  # far below the teacher's um/px a training tile has 16 px
        if self.tile_px < smallest:
            raise UserError(f"a tile of {self.tile_px} px is too small to detect in", remedy=f"give {smallest} or more")
        usual = min(0.25, OVERLAP_UM / (self.tile_px * detector.input_mpp))
        self.overlap = usual if overlap is None else overlap
        self.batch_size = default_batch_size(detector, self.tile_px) if batch_size is None else batch_size
        self.score_thresh = score_thresh
        self.min_tissue = min_tissue
        self.merge_rule = merge_rule
        if not 0.0 <= self.overlap <= MAX_OVERLAP:
            raise UserError(f"an overlap of {overlap:g} is not possible", remedy=f"give 0 to {MAX_OVERLAP:g}")
        if self.batch_size < 1:
            raise UserError(f"a batch size of {self.batch_size} is not possible", remedy="give 1 or more")

    @classmethod
    def from_model(
        cls, model: str | Path, *, device: str = "auto", backend: str = "auto", **options: Any
    ) -> SlidePredictor:
        """A predictor of ``model``: a checkpoint, an exported .torchscript or .onnx file, or a name of the registry.

        device, backend: see ``mhkd.deploy.load.load_model``. options: those of the class. Example::

            from mhkd.inference.predictor import SlidePredictor
            from preprocess.slides.slide import Slide

            predictor = SlidePredictor.from_model("detector.pth")
            with Slide.open("slide.svs") as slide:
                found = predictor.predict(slide)
            for box, score in zip(found.boxes_l0, found.scores):
                print(box, score)
        """
        return cls(load_model(model, device=device, backend=backend), **options)

    @property
    def settings(self) -> dict[str, Any]:
        """How it searches, as plain JSON: what was asked for, or else what it chose."""
        names = ("tile_px", "overlap", "batch_size", "min_tissue", "merge_rule")
        return {"input_mpp": self.detector.input_mpp, **{name: getattr(self, name) for name in names}}

    def tile_size(self, slide: Slide) -> Size:
        """The size of the tiles of ``slide``, in input pixels: no longer than it takes to show its longer side.

        White all around a small image is nothing that a detector was trained on. Where its normalisation looks at the
        whole image, it costs most of what there is to find.
        """
        needed = math.ceil(max(slide.size_um) / self.detector.input_mpp / SIDE_STEP_PX) * SIDE_STEP_PX
        side = min(self.tile_px, needed)
        return Size(side, side)

    def plan(self, slide: Slide) -> TilePlan:
        """Which tiles of ``slide`` hold tissue."""
        wh_l0 = slide.wh_l0(self.tile_size(slide), self.detector.input_mpp)
        overlap_l0 = (wh_l0[0] * self.overlap, wh_l0[1] * self.overlap)
        return plan_tiles(TissueMask.of(slide), wh_l0, overlap_l0, self.min_tissue)

    def predict(
        self, slide: Slide, plan: TilePlan | None = None, *, advance: Callable[[int], object] = lambda tiles: None
    ) -> SlideDetections:
        """Everything detected in ``slide``: boxes in level-0 pixels, best score first, clipped to the slide.

        Args:
            plan: from ``plan(slide)``, if it is at hand.
            advance: called with the number of tiles after each batch.

        Raises:
            UserError: the slide cannot be read, or the memory does not hold a single tile's work.
        """
        tiles = (self.plan(slide) if plan is None else plan).tiles
        found: list[SlideDetections] = []
        with closing(self.search(slide, tiles)) as results:  # ends the work, whatever ends this
            for result in results:
                found += result
                advance(len(result))
        merged = merge_tiles(found, tiles, slide.region, self.detector.class_names, rule=self.merge_rule)
        return _clip(merged, slide.region)

    def search(self, slide: Slide, tiles: Sequence[Region]) -> Generator[list[SlideDetections], None, None]:
        """What is detected in each tile, batch by batch in their order; to be closed.

        Each thread reads a batch, sends it to a GPU where there is one and, in its turn, runs the model on it. While
        one is in the model, there is at least one other that reads.
        """
        threads = torch.get_num_threads()
        lanes = min(LANES, threads) if self.detector.is_thread_safe else 1
        readers = min(READERS, threads) if is_gpu(self.detector.device) else 0
        turns = Semaphore(lanes)
        workers = ThreadPoolExecutor(max(2, lanes + readers), "tile-lane", torch.set_num_threads, (threads // lanes,))
        try:
            size, step = self.tile_size(slide), self.batch_size
            batches = [tiles[i : i + step] for i in range(0, len(tiles), step)]
            pending = [workers.submit(self._read_and_detect, slide, regions, size, turns) for regions in batches]
            for future in pending:
                yield future.result()
        finally:
            workers.shutdown(cancel_futures=True)  # waits for what is in hand: the slide is not closed under it
            torch.set_num_threads(threads)

    def _read_and_detect(
        self, slide: Slide, regions: Sequence[Region], size: Size, turns: Semaphore
    ) -> list[SlideDetections]:
        """The detections of each tile, in as many passes of the model as the memory asks for."""
        batch = send_images([slide.read(region, size) for region in regions], self.detector.device)
        found: list[SlideDetections] = []
        with turns:
            while len(found) < len(batch):
                where = slice(len(found), len(found) + self.batch_size)
                part = batch.part(where)
                try:
                    found += detect(self.detector, part, regions[where], score_thresh=self.score_thresh)
                except BatchTooLargeError:
                    if len(part) == 1:
                        raise
                    self.batch_size = max(1, len(part) // 2)
                    note(f"the memory does not hold {len(part)} tiles at once: going on with {self.batch_size}")
        return found


def default_batch_size(detector: Detector, tile_px: int) -> int:
    """How many tiles of ``tile_px`` x ``tile_px`` input pixels go through ``detector`` in one pass."""
    if not is_gpu(detector.device):
        return 1
    side_px = tile_px * getattr(detector.model, "upsample", 1)
    return max(1, min(MAX_GPU_BATCH, GPU_BATCH_PX // side_px**2))


def _clip(detections: SlideDetections, region: Region) -> SlideDetections:
    low, high = np.array((region.x, region.y) * 2), np.array((region.x1, region.y1) * 2)
    boxes = detections.boxes_l0.clip(low, high)
    return replace(detections, boxes_l0=boxes).select(np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1)))
