"""One slide to be scored: its true boxes, its detections, and what the metrics are per."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mhkd.structures import SlideDetections
from preprocess.annotations import read_annotations
from preprocess.annotations.class_map import AS_ANNOTATED, ClassMap, spread_ignored
from preprocess.base.console import note
from preprocess.base.errors import UserError, named
from preprocess.slides.slide import Slide
from preprocess.tiles.boxes import BoxIndex, BoxRule, remove_duplicates
from preprocess.tiles.placement import MAX_MISPLACED, Placement, is_odd_size
from preprocess.tissue.mask import TissueMask

BOX_RULE = BoxRule()  # an object with less than half of it on the slide need not be found


@dataclass(frozen=True)
class GroundTruth:
    """M true boxes of one image (a slide, or a tile).

    Attributes:
        boxes_l0: (M, 4) float64 xyxy, level-0 pixels.
        labels: (M,) int64, indices into the model's classes.
        ignore: (M,) bool, objects that need not be found and that cost nothing when found, such as one that a tile's
            edge cuts to a sliver.
    """

    boxes_l0: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(
        cls, boxes_l0: object, names: Sequence[str], class_names: Sequence[str], ignore: Sequence[bool] | None = None
    ) -> GroundTruth:
        """From boxes, (M, 4) xyxy in level-0 pixels or empty, and the ``names`` of their M classes.

        Names that differ in case alone are one, unless the model tells such classes apart.

        Raises:
            UserError: the model does not know one of ``names``.
        """
        key = str.casefold if len(set(map(str.casefold, class_names))) == len(class_names) else str
        index = {key(name): i for i, name in enumerate(class_names)}
        if unknown := sorted({name for name in names if key(name) not in index}):
            known = ", ".join(map(repr, class_names))
            raise UserError(
                f"annotated as {', '.join(map(repr, unknown))}, but the model knows {known}",
                remedy="map them to what it was trained on: --class-map with lines like 'glom: Glomerulus'",
            )
        return cls(
            np.asarray(boxes_l0, dtype=np.float64).reshape(-1, 4),
            np.array([index[key(name)] for name in names], dtype=np.int64),
            np.zeros(len(names), dtype=bool) if ignore is None else np.asarray(ignore, dtype=bool),
        )

    def select(self, chosen: np.ndarray) -> GroundTruth:
        """Those that ``chosen``, indices or a mask of M, picks."""
        return GroundTruth(self.boxes_l0[chosen], self.labels[chosen], self.ignore[chosen])


@dataclass(frozen=True)
class ScoredSlide:
    """One slide with what is there and what was detected.

    Attributes:
        mpp: micrometres per level-0 pixel.
        detections: all of them, also weak ones, since AP and FROC look at every threshold.
        seconds: of the search, None where it was not timed.
    """

    name: str
    patient: str
    mpp: float
    tissue_mm2: float
    ground_truth: GroundTruth
    detections: SlideDetections
    seconds: float | None = None

    def of_class(self, label: int) -> ScoredSlide:
        """As if ``label``, an index into the model's classes, were the only class."""
        gt, pred = self.ground_truth, self.detections
        return replace(self, ground_truth=gt.select(gt.labels == label), detections=pred.select(pred.labels == label))


def by_name(slides: Sequence[ScoredSlide]) -> tuple[dict[str, GroundTruth], dict[str, SlideDetections]]:
    """True boxes and detections of ``slides``, each by the slide's name."""
    return {slide.name: slide.ground_truth for slide in slides}, {slide.name: slide.detections for slide in slides}


def read_ground_truth(
    slide: Slide,
    annotation: str | Path,
    class_names: Sequence[str],
    *,
    classes: ClassMap = AS_ANNOTATED,
    origin: str | None = None,
    tissue: TissueMask | None = None,
    max_misplaced: float = MAX_MISPLACED,
) -> GroundTruth:
    """The boxes of the objects that the file ``annotation`` outlines on ``slide``, in level-0 pixels.

    Args:
        class_names: those of the model, in the order of its labels.
        classes: which annotations count, as what.
        origin: where their coordinates count from, see ``preprocess.annotations.origin``.
        tissue: of the slide; None to take the outlines as they are.
        max_misplaced: the share of them that may lie off the slide or its tissue; what does is said.

    Raises:
        UserError: the file is not readable or of another frame, the model does not know one of its classes, or
            ``origin`` is missing and needed.
    """
    read = read_annotations(annotation, slide, origin)
    if read.unused:
        note(f"{annotation}: items that are no objects: {read.unused_text}")
    annotations = remove_duplicates(classes.apply(read).annotations)
    if tissue is not None:
        placement = Placement.of(annotations, tissue)
        with named(Path(annotation)):
            placement.check(max_misplaced)
        if placement.num_misplaced or is_odd_size(placement.median_um):
            note(f"{annotation}: {placement}")
    found = BoxIndex(annotations, BOX_RULE).boxes(slide.region)
    boxes = [(box, label) for box in found for label in spread_ignored(box.label, class_names)]
    ignore = [box.ignore for box, _ in boxes]
    try:
        return GroundTruth.of([box.xyxy for box, _ in boxes], [label for _, label in boxes], class_names, ignore)
    except UserError as error:
        raise UserError(error.reason, path=str(annotation), remedy=error.remedy) from None
