"""A detector over a whole slide: tissue, overlapping tiles, batches read ahead, one box per object."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from mhkd.detector import Detector, detect
from mhkd.inference.merge import merge_tiles
from mhkd.structures import SlideDetections
from preprocess.errors import UserError
from preprocess.geometry import Region, Size
from preprocess.grid import Grid
from preprocess.slide import Slide
from preprocess.tissue import TissueMask

SCORE_FLOOR = 0.05  # weaker detections are not even merged
BATCHES_AHEAD = 2  # read while the model works; more would only hold more memory


@dataclass(frozen=True)
class TilePlan:
    """The tiles of one slide that will be looked at (level-0 pixels, row by row), and the tissue in the slide."""

    tiles: tuple[Region, ...]
    tissue: TissueMask

    @property
    def tissue_um2(self) -> float:
        """The area of all tissue, in square micrometres."""
        return self.tissue.area_um2()


class SlidePredictor:
    """Finds a detector's objects on whole slides.

    tile_px: side of the tiles in the detector's input pixels, by default the side it was trained on. overlap: of
    neighbouring tiles, as a share of their side; best not less than the largest object. min_tissue: tiles with a
    smaller share of tissue are skipped. score_thresh: detections below it are left out before merging. merge_rule: see
    ``mhkd.inference.merge``. Raises UserError where an option is out of its range.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        tile_px: int | None = None,
        overlap: float = 0.25,
        batch_size: int = 4,
        score_thresh: float = SCORE_FLOOR,
        min_tissue: float = 0.01,
        merge_rule: str = "edge",
    ) -> None:
        self.detector = detector
        self.tile_px = detector.tile_px if tile_px is None else tile_px
        self.overlap = overlap
        self.batch_size = batch_size
        self.score_thresh = score_thresh
        self.min_tissue = min_tissue
        self.merge_rule = merge_rule
        if self.tile_px < 32:
            raise UserError(f"a tile of {self.tile_px} px is too small to detect in", remedy="give 32 px or more")
        if not 0.0 <= overlap < 0.9:
            raise UserError(f"an overlap of {overlap:g} is not possible", remedy="give a share from 0 to below 0.9")
        if batch_size < 1:
            raise UserError(f"a batch size of {batch_size} is not possible", remedy="give 1 or more")

    def plan(self, slide: Slide) -> TilePlan:
        """Which tiles of ``slide`` hold tissue."""
        mask = TissueMask.of(slide)
        wh_l0 = slide.wh_l0(Size(self.tile_px, self.tile_px), self.detector.input_mpp)
        grid = Grid(slide.region, wh_l0, (wh_l0[0] * self.overlap, wh_l0[1] * self.overlap), last="shift")
        # On whole pixels, as the tiles of the training set.
        places = (Region(math.floor(tile.x), math.floor(tile.y), *wh_l0) for tile in grid)
        tiles = tuple(place for place in places if mask.coverage(place) >= self.min_tissue)
        return TilePlan(tiles, mask)

    def predict(
        self, slide: Slide, plan: TilePlan | None = None, *, advance: Callable[[int], object] = lambda tiles: None
    ) -> SlideDetections:
        """Everything found in ``slide``, in level-0 pixels, sorted; clipped to the slide.

        plan: from ``plan(slide)``, if it is at hand. advance: called with the number of tiles after each batch.
        Raises UserError where the slide cannot be read or the batch does not fit the accelerator's memory.
        """
        tiles = (self.plan(slide) if plan is None else plan).tiles
        found: list[SlideDetections] = []
        with closing(self._read_ahead(slide, tiles)) as batches:  # ends the reading, whatever ends this
            for regions, images in batches:
                found += detect(self.detector, images, regions, score_thresh=self.score_thresh)
                advance(len(regions))
        merged = merge_tiles(found, tiles, slide.region, self.detector.class_names, rule=self.merge_rule)
        return _clip(merged, slide.region)

    def _read_ahead(
        self, slide: Slide, tiles: Sequence[Region]
    ) -> Generator[tuple[Sequence[Region], list[np.ndarray]], None, None]:
        """Batches of tiles in their order; one thread reads the next ones while the caller uses this one."""
        size = Size(width=self.tile_px, height=self.tile_px)
        batches = [tiles[i : i + self.batch_size] for i in range(0, len(tiles), self.batch_size)]
        pending: deque[Future[list[np.ndarray]]] = deque()
        reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tile-reader")
        try:
            for index, regions in enumerate(batches):
                while len(pending) < BATCHES_AHEAD and index + len(pending) < len(batches):
                    pending.append(reader.submit(_read_batch, slide, batches[index + len(pending)], size))
                yield regions, pending.popleft().result()
        finally:
            reader.shutdown(
                cancel_futures=True
            )  # waits for the batch in hand, so that the slide is not closed under it


def _read_batch(slide: Slide, regions: Sequence[Region], size: Size) -> list[np.ndarray]:
    return [slide.read(region, size) for region in regions]


def _clip(detections: SlideDetections, region: Region) -> SlideDetections:
    low, high = np.array((region.x, region.y) * 2), np.array((region.x1, region.y1) * 2)
    boxes = detections.boxes_l0.clip(low, high)
    clipped = SlideDetections(boxes, detections.scores, detections.labels, detections.class_names)
    return clipped.select(np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1)))
