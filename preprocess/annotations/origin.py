"""Where the coordinates of annotations count from: the corner of the slide, or of the part that was scanned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import shapely.affinity

from preprocess.annotations.annotation import Annotations, SlideFrame, WrongSizeError
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size

Origin = Literal["slide", "bounds"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)


class ScannedSlide(SlideFrame, Protocol):
    """A slide of which ``region`` was scanned, in level-0 pixels."""

    @property
    def region(self) -> Region: ...


@dataclass(frozen=True)
class Frame:
    """What coordinates may count on: a rectangle of ``size``, whose corner is at (x, y) of the slide's level 0."""

    slide: SlideFrame
    size: Size
    x: float = 0.0
    y: float = 0.0

    @property
    def name(self) -> str:
        """The slide's name."""
        return self.slide.name

    @property
    def mpp_xy(self) -> tuple[float, float]:
        """The slide's um per level-0 pixel."""
        return self.slide.mpp_xy

    @property
    def properties(self) -> Mapping[str, str]:
        """The slide's header."""
        return self.slide.properties


def check_origin(origin: str | None) -> str | None:
    """``origin``, in lower case; UserError if it is none of ``ORIGINS``."""
    if origin is None or origin.lower() in ORIGINS:
        return origin and origin.lower()
    raise UserError(f"unknown origin {origin!r} of annotations", remedy=f"the origins are {', '.join(ORIGINS)}")


def read_in_slide_frame(
    slide: ScannedSlide, origin: str | None, read: Callable[[SlideFrame], Annotations]
) -> Annotations:
    """What ``read`` gives of a file, in level-0 pixels of the whole slide, the frame of everything else here.

    ``slide``: its coordinates count from the slide's corner already, as HALO and scripts on OpenSlide write them.
    ``bounds``: they count from the corner of ``slide.region``, because the viewer shows no more than the
    scanned part (``openslide.bounds-*``), as QuPath does with the slides that it opens through OpenSlide.
    None: not stated, which is refused where the two corners differ. A file that says how large its image was
    (a mask, COCO, ...) says by itself which it is, whatever is stated, unless both fit.
    """
    x, y = slide.region.x, slide.region.y
    scanned = Size(max(1, round(slide.region.width)), max(1, round(slide.region.height)))
    frames = [Frame(slide, slide.size), Frame(slide, scanned, x, y)]
    if origin == "bounds":
        frames.reverse()
    fitting: list[tuple[Frame, Annotations]] = []
    misfits: list[WrongSizeError] = []
    for frame in frames[: 1 if frames[0] == frames[1] else 2]:
        if fitting and origin is not None:
            break
        try:
            fitting.append((frame, read(frame)))
        except WrongSizeError as error:
            misfits.append(error)
    if not fitting:
        also = f", of which {scanned.width} x {scanned.height} were scanned" if scanned != slide.size else ""
        whole = misfits[-1 if origin == "bounds" else 0]
        raise WrongSizeError(whole.reason + also, remedy=whole.remedy)
    frame, found = fitting[0]
    if found and len({(one.x, one.y) for one, _ in fitting}) > 1:
        raise UserError(
            f"what was scanned of {slide.name} starts at ({x:g}, {y:g}), and it is not stated where its annotations "
            "count from",
            remedy="say so in the column origin (mhkd tiles: --annotation-origin): bounds (QuPath) or slide",
        )
    if not (frame.x or frame.y):
        return found
    moved = (replace(one, polygon=shapely.affinity.translate(one.polygon, frame.x, frame.y)) for one in found)
    return replace(found, objects=tuple(moved))
