"""Where the coordinates of annotations count from: the corner of the slide, or of the part that was scanned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import shapely.affinity

from preprocess.annotations.annotation import Annotation
from preprocess.base.errors import UserError
from preprocess.slides.slide import Slide

Origin = Literal["slide", "bounds"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)


def check_origin(origin: str | None) -> str | None:
    """``origin``, in lower case; UserError if it is none of ``ORIGINS``."""
    if origin is None or origin.lower() in ORIGINS:
        return origin and origin.lower()
    raise UserError(f"unknown origin {origin!r} of annotations", remedy=f"the origins are {', '.join(ORIGINS)}")


def to_slide_frame(annotations: Sequence[Annotation], slide: Slide, origin: str | None) -> list[Annotation]:
    """``annotations`` in level-0 pixels of the whole slide, the frame of everything else here.

    ``slide``: they count from the slide's corner already, as HALO and scripts on OpenSlide write them.
    ``bounds``: they count from the corner of ``slide.region``, because the viewer shows no more than the
    scanned part (``openslide.bounds-*``), as QuPath does with the slides that it opens through OpenSlide.
    None: not stated, which is refused where the two corners differ, for no file says which it means.
    """
    x, y = slide.region.x, slide.region.y
    if origin == "slide" or not annotations or (x, y) == (0, 0):
        return list(annotations)
    if origin is None:
        raise UserError(
            f"what was scanned starts at ({x:g}, {y:g}), and it is not stated where its annotations count from",
            path=slide.path,
            remedy="say so in the column origin (make_tiles.py: --annotation-origin): bounds (QuPath) or slide",
        )
    return [replace(one, polygon=shapely.affinity.translate(one.polygon, x, y)) for one in annotations]
