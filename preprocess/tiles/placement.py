"""Whether outlines lie on their slide and its tissue and are as large as glomeruli, or are those of another frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import shapely

from preprocess.annotations.annotation import Annotation
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, area_um2
from preprocess.tissue.mask import TissueMask

MAX_MISPLACED = 0.3
"""The share of outlines that may lie off the slide or on glass; of a thousand real ones (docs/annotations.md) none."""
# The median of a slide: human glomeruli have 100 to 300 um, rats' and cut ones less, on pictures of one of them more.
_USUAL_UM = (70.0, 350.0)
# Coordinates of another scale mostly still meet some tissue: where the size is odd, too, this part of the share is.
_ODD_SIZE = 1 / 3
# What no glomerulus has, not even one that fills its picture: 474 um and seven tenths are the most that was seen.
_HUGE_UM, _HUGE_SHARE = 800.0, 0.5
# Coordinates that are shares of the picture, degrees or of a thumbnail make specks; of 1,015 real outlines one is.
_SPECK_UM = 20.0
# In um instead of pixels all are small and at the upper left; of 276 real files none has three or more there alone.
_SMALL_UM, _MIN_IN_CORNER = 55.0, 3
# Of the border of a picture, six hundredths are the most that a real glomerulus was seen to touch.
_MAX_BORDER = 0.5


@dataclass(frozen=True)
class Placement:
    """Where the ``num_outlines`` of a slide lie.

    ``num_off_slide`` lie for the most part outside what was scanned; of the others, ``num_on_glass`` objects have less
    tissue than glass in their box, and of the rest ``num_specks`` are too small to be seen. ``median_um`` is the
    objects' median diameter, that of a circle of their area, in micrometres, 0 without objects. ``huge`` is the label
    of an object that covers half the slide or touches half of its border, or None. ``in_corner`` says whether
    they are several and all in the upper left quarter.
    """

    num_outlines: int
    num_off_slide: int
    num_on_glass: int
    median_um: float
    huge: str | None = None
    num_specks: int = 0
    in_corner: bool = False

    @classmethod
    def of(cls, annotations: Sequence[Annotation], tissue: TissueMask) -> Placement:
        """Count ``annotations``, in level-0 pixels; regions to ignore may lie on glass, and have any size."""
        scanned = tissue.region
        window = shapely.box(scanned.x, scanned.y, scanned.x1, scanned.y1)
        objects = [one for one in annotations if not one.ignore]
        off = {id(one) for one in annotations if one.polygon.intersection(window).area < one.polygon.area / 2}
        glass = {id(one) for one in objects if id(one) not in off and _tissue_share(one, tissue) < 0.5}
        diameters = [_diameter_um(one, tissue.slide_mpp) for one in objects]
        huge = (
            one.label
            for one, diameter in zip(objects, diameters, strict=True)
            if (diameter > _HUGE_UM and one.polygon.area > _HUGE_SHARE * scanned.area)
            or one.polygon.intersection(window.exterior).length > _MAX_BORDER * window.length
        )
        quarter = scanned.x + scanned.width / 2, scanned.y + scanned.height / 2
        in_corner = len(objects) >= _MIN_IN_CORNER and all(
            one.polygon.bounds[2] <= quarter[0] and one.polygon.bounds[3] <= quarter[1] for one in objects
        )
        middle = round(median(diameters), 1) if diameters else 0.0
        specks = sum(
            diameter < _SPECK_UM and id(one) not in off | glass
            for one, diameter in zip(objects, diameters, strict=True)
        )
        return cls(len(annotations), len(off), len(glass), middle, next(huge, None), specks, in_corner)

    @property
    def num_misplaced(self) -> int:
        """How many lie off the slide or on glass, or are specks."""
        return self.num_off_slide + self.num_on_glass + self.num_specks

    def __str__(self) -> str:
        share = max(1, self.num_outlines) / 100
        specks = f", {self.num_specks / share:.0f} % are below {_SPECK_UM:g} um" if self.num_specks else ""
        corner = "; all lie in its upper left quarter" if self.in_corner else ""
        return (
            f"{self.num_off_slide / share:.0f} % of its {self.num_outlines} outlines lie off the slide, "
            f"{self.num_on_glass / share:.0f} % on glass{specks}; their median diameter is {self.median_um:.0f} um, "
            f"a glomerulus has about 100 to 300{corner}"
        )

    def check(self, max_misplaced: float = MAX_MISPLACED) -> None:
        """UserError where more than ``max_misplaced`` of the outlines lie off the slide or on glass, or are specks.

        A third of it is enough where the median diameter is odd, too, and several small ones may not all be in the
        upper left quarter. With 1 only those are refused of which all lie off the slide, and an object that covers most
        of the slide, which is tissue or background.
        """
        if not 0 <= max_misplaced <= 1:
            raise UserError(f"max_misplaced {max_misplaced:g} is no share", remedy="give a number from 0 to 1")
        if self.huge is not None:
            raise UserError(
                f"an object of the class {self.huge!r} covers most of the slide or its border: it is no glomerulus",
                remedy="give its class to drop or ignore in a class map; the background of a mask must be 0: invert it",
            )
        limit = max_misplaced * (_ODD_SIZE if is_odd_size(self.median_um) and max_misplaced < 1 else 1)
        misplaced = self.num_off_slide + self.num_on_glass
        too_many = misplaced > limit * self.num_outlines or self.num_misplaced > max_misplaced * self.num_outlines
        too_small = self.in_corner and self.median_um < _SMALL_UM and max_misplaced < 1
        if too_many or too_small or 0 < self.num_outlines == self.num_off_slide:
            raise UserError(
                str(self),
                remedy="give the slide's own annotations, in its level-0 pixels, and its um/px; where this is right, "
                "say --max-misplaced 1",
            )


def is_odd_size(median_um: float) -> bool:
    """Whether the median object of a slide that has any is no usual glomerulus."""
    return median_um > 0 and not _USUAL_UM[0] <= median_um <= _USUAL_UM[1]


def _tissue_share(one: Annotation, tissue: TissueMask) -> float:
    """The tissue in the box of ``one``, as a share of what of that box was scanned."""
    x0, y0, x1, y1 = one.polygon.bounds
    inside = Region(x0, y0, x1 - x0, y1 - y0).intersection(tissue.region)
    return 0.0 if inside is None else tissue.coverage(inside)


def _diameter_um(one: Annotation, slide_mpp: float) -> float:
    return 2 * math.sqrt(area_um2(one.polygon.area, slide_mpp) / math.pi)
