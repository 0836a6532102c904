"""Aligned pairs of tiles: one region of a slide, read at the teacher's and at the student's mpp."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from preprocess.annotations.annotation import Annotation
from preprocess.boxes import Box, BoxIndex
from preprocess.errors import UserError
from preprocess.geometry import Region, Size, is_plausible_mpp, px_to_l0
from preprocess.grid import Grid
from preprocess.readers.reader import Image
from preprocess.slide import Slide
from preprocess.tissue import TissueMask


@dataclass(frozen=True)
class PairSpec:
    """How slides are cut into tile pairs. Raises UserError where the values do not fit together.

    ``tile_px`` is the side of the teacher's tile; the student's is smaller by the ratio of the two mpp,
    and must be a whole number of pixels. ``overlap`` is the fraction of a tile that it shares with the
    next one. Tiles with a box are always kept; of the others those with at least ``min_tissue`` tissue,
    and of these the fraction ``keep_empty``, drawn by a hash of ``seed`` and the tile's id.
    ``min_visible`` is the rule of :class:`preprocess.boxes.BoxIndex`.
    """

    teacher_mpp: float = 1.0
    student_mpp: float = 4.0
    tile_px: int = 1024
    overlap: float = 0.25
    min_tissue: float = 0.1
    min_visible: float = 0.5
    keep_empty: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("teacher_mpp", "student_mpp"):
            if not is_plausible_mpp(getattr(self, name)):
                raise UserError(f"{name} {getattr(self, name):g} is no plausible um/px", remedy="try 1 and 4")
        if self.student_mpp < self.teacher_mpp:
            raise UserError(
                f"the student's mpp {self.student_mpp:g} is finer than the teacher's {self.teacher_mpp:g}",
                remedy="the student sees the lower resolution, so it has the larger mpp",
            )
        for name, low, high in (("overlap", 0, 0.9), ("min_tissue", 0, 1), ("min_visible", 0, 1), ("keep_empty", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} {getattr(self, name):g} is not between {low} and {high:g}")
        if self.tile_px < 1:
            raise UserError(f"a tile of {self.tile_px} px is empty", remedy="try 1024")
        side = self.tile_px / self.scale
        if side < 1 or not math.isclose(side, round(side), rel_tol=1e-9):
            raise UserError(
                f"a tile of {self.tile_px} px would be {side:g} px for the student, no whole number",
                remedy=f"choose tile_px as a multiple of {self.scale:g}, or other mpp",
            )

    @property
    def scale(self) -> float:
        """How many teacher pixels one student pixel spans along each axis."""
        return self.student_mpp / self.teacher_mpp

    @property
    def teacher_size(self) -> Size:
        """The teacher's tile in pixels."""
        return Size(self.tile_px, self.tile_px)

    @property
    def student_size(self) -> Size:
        """The student's tile in pixels."""
        side = round(self.tile_px / self.scale)
        return Size(side, side)


@dataclass(frozen=True)
class TilePair:
    """One region as the teacher's and the student's image (uint8 RGB), with its tissue fraction and boxes."""

    tile_id: str
    region: Region
    tissue: float
    teacher: Image
    student: Image
    boxes: list[Box]

    @property
    def xy_name(self) -> str:
        """The region's place in the names of files."""
        return _xy_name(self.region)


@dataclass(frozen=True)
class PlannedPair:
    """A tile pair before its pixels are read; see :class:`TilePair`."""

    tile_id: str
    region: Region
    tissue: float
    boxes: list[Box]

    def read(self, slide: Slide, spec: PairSpec) -> TilePair:
        """Read both images, each from the level that suits it.

        To reduce the teacher's image instead would cost as much (about a millisecond), and would train the
        student on cleaner pixels than it gets at inference. Where both share a level, the reader still has
        the decoded tiles.
        """
        teacher, student = slide.read(self.region, spec.teacher_size), slide.read(self.region, spec.student_size)
        return TilePair(self.tile_id, self.region, self.tissue, teacher, student, self.boxes)


def iter_tile_pairs(slide: Slide, annotations: Sequence[Annotation], spec: PairSpec) -> Iterator[TilePair]:
    """The tile pairs of ``slide``, in the order of :func:`plan_tile_pairs`."""
    for planned in plan_tile_pairs(slide, annotations, spec):
        yield planned.read(slide, spec)


def plan_tile_pairs(slide: Slide, annotations: Sequence[Annotation], spec: PairSpec) -> Iterator[PlannedPair]:
    """The tile pairs to cut from ``slide``, row by row; tiles start on whole level-0 pixels.

    Raises UserError if there are annotations but none of them lies on the slide.
    """
    _check_frame(slide, annotations)
    side_l0 = px_to_l0(spec.tile_px, spec.teacher_mpp, slide.mpp)
    tissue_mask = TissueMask.of(slide)
    index = BoxIndex(annotations, spec.min_visible)
    for place in Grid(slide.region, (side_l0, side_l0), overlap=spec.overlap * side_l0):
        region = Region(math.floor(place.x), math.floor(place.y), side_l0, side_l0)
        tile_id = f"{slide.name}_{_xy_name(region)}"
        boxes, tissue = index.boxes(region), tissue_mask.coverage(region)
        if boxes or (tissue >= spec.min_tissue and _draw(f"{spec.seed}:{tile_id}") < spec.keep_empty):
            yield PlannedPair(tile_id, region, tissue, boxes)


def _check_frame(slide: Slide, annotations: Sequence[Annotation]) -> None:
    if annotations and not BoxIndex(annotations, 0.0).boxes(slide.region):
        raise UserError(
            f"none of the {len(annotations)} annotations lies on its {slide.size.width} x {slide.size.height} px",
            path=slide.path,
            remedy="give the slide's own annotations, in level-0 pixels",
        )


def _xy_name(region: Region) -> str:
    return f"{int(region.x)}_{int(region.y)}"


def _draw(key: str) -> float:
    """A number in [0, 1) that depends on ``key`` alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
