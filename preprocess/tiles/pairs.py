"""Aligned pairs of tiles: one region of a slide, read at the teacher's and at the student's mpp."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import itemgetter
from typing import Any, Literal, get_args

from preprocess.annotations.annotation import Annotation
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size, is_plausible_mpp, px_to_l0
from preprocess.base.grid import grid_tiles
from preprocess.base.hashing import unit_hash
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide
from preprocess.slides.student_scan import StudentScan
from preprocess.tiles.boxes import SAME_IOU, Box, BoxIndex, BoxRule, is_larger
from preprocess.tiles.placement import MAX_MISPLACED, Placement
from preprocess.tissue.mask import TissueMask

TileKind = Literal["object", "empty", "unlabelled", "left out", "glass"]
TILE_KINDS: tuple[TileKind, ...] = get_args(TileKind)
"""What becomes of a tile: it has a box; or tissue alone, and is kept or one too many; or too little tissue. On a slide
that nobody annotated a tile with tissue is unlabelled, neither object nor empty."""
KEPT_KINDS: tuple[TileKind, ...] = ("object", "empty", "unlabelled")


def shown_kinds(counts: Mapping[TileKind, int]) -> list[TileKind]:
    """The kinds that a text of ``counts`` names: all, but the unlabelled where there is none."""
    return [kind for kind in TILE_KINDS if counts[kind] or kind != "unlabelled"]


# Fewer tiles with a box than this count as this many where empty tiles are chosen.
_FEW_OBJECTS = 8
# A real low-resolution scan may be enlarged by this much for the student's tile.
_MAX_ENLARGED = 1.5


def option(default: Any, text: str) -> Any:
    """A field of a dataclass with the help that command-line tools show for it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class PairSpec:
    """How slides are cut into tile pairs. Raises UserError where the values do not fit together.

    The student's tile is smaller than ``tile_px`` by the ratio of the two mpp, to a whole number of pixels. Tiles with
    a box are always kept. Of the others, those with at least ``min_tissue`` tissue are candidates, and of these the
    fraction ``keep_empty`` is kept, but at most ``empty_ratio`` for each tile with a box (None: no limit); a slide with
    few or no objects counts as one with 8 tiles with a box. Which are kept depends on a hash of ``seed`` and the tile's
    id alone. ``min_visible``, ``min_ignored`` and ``min_box_px`` are the rule of
    :class:`preprocess.tiles.boxes.BoxRule`, ``same_iou`` that of :func:`preprocess.tiles.boxes.remove_duplicates`,
    ``max_misplaced`` that of :meth:`preprocess.tiles.placement.Placement.check`.
    """

    teacher_mpp: float = option(1.0, "um/px of the teacher's tiles")
    student_mpp: float = option(4.0, "um/px of the student's tiles")
    tile_px: int = option(1024, "side of the teacher's tile in pixels")
    overlap: float = option(0.25, "fraction shared by neighbours")
    min_tissue: float = option(0.1, "tissue that an empty tile needs")
    min_visible: float = option(0.5, "visible part of an object")
    min_ignored: float = option(0.1, "visible part of an ignored one")
    min_box_px: float = option(2.0, "side of a box, in the student's pixels")
    same_iou: float = option(SAME_IOU, "from this IoU on two outlines are one object")
    max_misplaced: float = option(MAX_MISPLACED, "share of outlines off the slide or on glass; 1: any")
    keep_empty: float = option(1.0, "fraction of empty tiles to keep")
    empty_ratio: float | None = option(None, "most empty tiles per tile with an object")
    seed: int = option(0, "for the split and the choice of empty tiles")

    def __post_init__(self) -> None:
        for name in ("teacher_mpp", "student_mpp"):
            if not is_plausible_mpp(getattr(self, name)):
                raise UserError(f"{name} {getattr(self, name):g} is no plausible um/px", remedy="try 1 and 4")
        if self.student_mpp < self.teacher_mpp:
            raise UserError(
                f"the student's mpp {self.student_mpp:g} is finer than the teacher's {self.teacher_mpp:g}",
                remedy="the student sees the lower resolution, so it has the larger mpp",
            )
        highest = {"overlap": 0.9, "min_tissue": 1, "keep_empty": 1, "same_iou": 2, "max_misplaced": 1}
        for name, high in highest.items():
            if not 0 <= getattr(self, name) <= high:
                raise UserError(f"{name} {getattr(self, name):g} is not between 0 and {high:g}")
        self.box_rule(1.0)  # it checks the rest
        if self.empty_ratio is not None and not 0 <= self.empty_ratio < math.inf:
            raise UserError(f"empty_ratio {self.empty_ratio:g} is no number of empty tiles per tile with a box")
        if self.tile_px < 1:
            raise UserError(f"a tile of {self.tile_px} px is empty", remedy="try 1024")
        side = self.tile_px / self.scale
        if side < 1 or not math.isclose(side, round(side), rel_tol=1e-9):
            raise UserError(
                f"a tile of {self.tile_px} px would be {side:g} px for the student, no whole number",
                remedy=f"choose tile_px as a multiple of {self.scale:g}, or other mpp",
            )

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> PairSpec:
        """The specification that a manifest's provenance states among its ``parameters``."""
        return cls(**{one.name: parameters[one.name] for one in fields(cls)})

    @property
    def scale(self) -> float:
        """How many teacher pixels one student pixel spans along each axis."""
        return self.student_mpp / self.teacher_mpp

    def box_rule(self, slide_mpp: float) -> BoxRule:
        """The rule for boxes on a slide of ``slide_mpp`` um/px."""
        return BoxRule(self.min_visible, self.min_ignored, px_to_l0(self.min_box_px, self.student_mpp, slide_mpp))

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
class PlannedTile:
    """One place of a slide's grid, with its tissue fraction, its boxes and its kind."""

    tile_id: str
    region: Region
    tissue: float
    boxes: list[Box]
    kind: TileKind

    @property
    def xy_name(self) -> str:
        """The region's place in the names of files."""
        return _xy_name(self.region)

    def read(self, slide: Slide, spec: PairSpec, scan: StudentScan | None = None) -> TilePair:
        """Read both images, each from the level that suits it, the student's from ``scan`` where there is one.

        The teacher's image reduced would be cleaner than what the student gets at inference, and cost as much.
        """
        teacher = slide.read(self.region, spec.teacher_size)
        student = (scan or slide).read(self.region, spec.student_size)
        return TilePair(**vars(self), teacher=teacher, student=student)


@dataclass(frozen=True)
class TilePair(PlannedTile):
    """A planned tile with the teacher's and the student's image of its region, both uint8 RGB."""

    teacher: Image
    student: Image


@dataclass(frozen=True)
class TilePlan:
    """Every place of a slide's grid, row by row, and the tissue that decided what becomes of it.

    ``placement`` is that of the slide's outlines on the tissue. Of its objects, ``num_larger`` are larger than a tile,
    and ``num_without_box`` have no box on any tile, or only such as are to be ignored.
    """

    tissue: TissueMask
    tiles: list[PlannedTile]
    placement: Placement
    num_larger: int
    num_without_box: int

    @property
    def kept(self) -> list[PlannedTile]:
        """The tiles to cut."""
        return [tile for tile in self.tiles if tile.kind in KEPT_KINDS]

    def counts(self) -> dict[TileKind, int]:
        """How many tiles have which kind, for each of ``TILE_KINDS``."""
        found = Counter(tile.kind for tile in self.tiles)
        return {kind: found[kind] for kind in TILE_KINDS}


def plan_tiles(
    slide: Slide,
    annotations: Sequence[Annotation] | None,
    spec: PairSpec,
    scan: StudentScan | None = None,
    *,
    name: str | None = None,
) -> TilePlan:
    """Which tiles of what was scanned of ``slide`` to cut, and why not the others; they start on whole level-0 pixels.

    Without ``annotations`` (None) nobody knows what is there, and every tile with tissue is kept.

    The student's images will come from ``scan``, the slide's own low-resolution scan, where there is one, and
    then only places that both scans show are planned. The ids of tiles begin with ``name`` (None: the slide's).
    Raises UserError if the scan is much coarser than the student's mpp.
    """
    outlines = annotations or ()
    _check_scan(scan, spec)
    wh_l0 = slide.wh_l0(spec.teacher_size, spec.teacher_mpp)
    mask = TissueMask.of(slide)
    index = BoxIndex(outlines, spec.box_rule(slide.mpp))
    with_tissue: TileKind = "unlabelled" if annotations is None else "empty"
    tiles = []
    for place in grid_tiles(slide.region, wh_l0, (wh_l0[0] * spec.overlap, wh_l0[1] * spec.overlap)):
        region = Region(math.floor(place.x), math.floor(place.y), *wh_l0)
        if scan is not None and not scan.covers(region, slide.region):
            continue
        boxes, tissue = index.boxes(region), mask.coverage(region)
        kind: TileKind = "object" if boxes else with_tissue if tissue >= spec.min_tissue else "glass"
        tiles.append(PlannedTile(f"{name or slide.name}_{_xy_name(region)}", region, tissue, boxes, kind))
    objects = {number: one for number, one in enumerate(outlines) if not one.ignore}
    boxed = {box.number for tile in tiles for box in tile.boxes if not box.ignore}
    return TilePlan(
        mask,
        thin_out(tiles, spec),
        Placement.of(outlines, mask),
        num_larger=sum(is_larger(one, *wh_l0) for one in objects.values()),
        num_without_box=len(objects.keys() - boxed),
    )


def iter_tile_pairs(
    slide: Slide,
    annotations: Sequence[Annotation] | None,
    spec: PairSpec,
    plan: TilePlan | None = None,
    scan: StudentScan | None = None,
) -> Iterator[TilePair]:
    """The tile pairs of ``slide``, row by row, as ``plan`` says (None: as :func:`plan_tiles` makes it)."""
    for tile in (plan or plan_tiles(slide, annotations, spec, scan)).kept:
        yield tile.read(slide, spec, scan)


def thin_out(tiles: list[PlannedTile], spec: PairSpec) -> list[PlannedTile]:
    """``tiles`` with all empty ones but the chosen marked as left out."""
    draws = {tile.tile_id: unit_hash(f"{spec.seed}:{tile.tile_id}") for tile in tiles if tile.kind == "empty"}
    chosen = [tile_id for tile_id, draw in sorted(draws.items(), key=itemgetter(1)) if draw < spec.keep_empty]
    if spec.empty_ratio is not None:
        num_objects = sum(tile.kind == "object" for tile in tiles)
        chosen = chosen[: math.ceil(spec.empty_ratio * max(num_objects, _FEW_OBJECTS))]
    left_out = set(draws) - set(chosen)
    return [replace(tile, kind="left out") if tile.tile_id in left_out else tile for tile in tiles]


def _check_scan(scan: StudentScan | None, spec: PairSpec) -> None:
    if scan is not None and scan.slide.mpp > _MAX_ENLARGED * spec.student_mpp:
        raise UserError(
            f"a scan of {scan.slide.mpp:g} um/px cannot show the student's {spec.student_mpp:g} um/px",
            path=scan.slide.path,
            remedy=f"choose a student's mpp of {scan.slide.mpp:g} or more",
        )


def _xy_name(region: Region) -> str:
    return f"{int(region.x)}_{int(region.y)}"
