"""One slide to be scored: what is there, what was found, and what the figures are per."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mhkd.evaluation.ground_truth import GroundTruth
from mhkd.structures import SlideDetections
from preprocess.annotations import read_annotations
from preprocess.annotations.class_map import AS_ANNOTATED, ClassMap, spread_ignored
from preprocess.annotations.origin import to_slide_frame
from preprocess.base.errors import UserError
from preprocess.slides.slide import Slide
from preprocess.tiles.boxes import BoxIndex, BoxRule, remove_duplicates

BOX_RULE = BoxRule()  # an object with less than half of it on the slide need not be found


@dataclass(frozen=True)
class SlideCase:
    """One slide: its name and patient, micrometres per level-0 pixel, tissue, true objects and detections.

    found: all detections, also weak ones, since AP and FROC look at every threshold. seconds: of the search, None
    where it was not timed.
    """

    name: str
    patient: str
    mpp: float
    tissue_mm2: float
    truth: GroundTruth
    found: SlideDetections
    seconds: float | None = None


def truth_of(
    slide: Slide,
    annotation: str | Path,
    class_names: Sequence[str],
    *,
    classes: ClassMap = AS_ANNOTATED,
    origin: str | None = None,
) -> GroundTruth:
    """The boxes of the objects that the file ``annotation`` outlines on ``slide``.

    classes: which annotations count, as what. origin: where their coordinates count from, see
    ``preprocess.annotations.origin``. Raises UserError where the file is not readable, the model does not know one
    of its classes, or ``origin`` is missing and needed.
    """
    mapped = classes.apply(read_annotations(Path(annotation), slide)).annotations
    annotations = remove_duplicates(to_slide_frame(mapped, slide, origin))
    found = BoxIndex(annotations, BOX_RULE).boxes(slide.region)
    boxes = [(box, label) for box in found for label in spread_ignored(box.label, class_names)]
    try:
        return GroundTruth.of(
            [box.xyxy for box, _ in boxes],
            [label for _, label in boxes],
            class_names,
            [box.ignore for box, _ in boxes],
        )
    except UserError as error:
        raise UserError(error.reason, path=str(annotation), remedy=error.remedy) from None
