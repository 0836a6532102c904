"""What every annotation format is read into, and what its readers share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, overload

import numpy as np
import shapely
from shapely import affinity
from shapely.geometry import LinearRing, MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from preprocess.base.errors import UserError
from preprocess.base.files import safe_name
from preprocess.base.geometry import Size

UNCLASSIFIED = "Unclassified"
"""The label of an object that its author gave no class."""

# A part smaller than this fraction of the largest one is a slip of the pen, not an object.
_MIN_PART = 0.01
# Length squared by area: an outline has 12 to some hundreds. Beyond, repairing what crosses itself takes all memory.
_MAX_SCRIBBLE = 1e5
# A millionth of a pixel is rounding, not an area.
_MIN_AREA = 1e-6
# Far beyond any slide; with larger numbers areas and intersections lose their precision.
_MAX_COORDINATE = 1e8
_WITHOUT_AREA, _CRUMB, _HOLE_OUTSIDE = "without area", "crumb", "hole outside of its outline"
_MAX_REASON = 60
_ELLIPSE_VERTICES = 64
_MAX_REDUCTION = 64
_OVALS = {"ellipse", "circle", "oval"}
_YES, _NO = {"1", "true", "yes"}, {"", "0", "false", "no", "none"}


class WrongSizeError(UserError):
    """Annotations of an image that is neither the slide nor the slide reduced."""


class ImageFrame(Protocol):
    """A slide's name, as ``preprocess.base.files.safe_name`` makes it, and its size.

    The size is that of what a file's coordinates count on: of the whole slide, or of what was scanned of it.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> Size: ...


class SlideFrame(ImageFrame, Protocol):
    """What some formats must know of a slide beside: its um per level-0 pixel, and its header by OpenSlide's names."""

    @property
    def mpp_xy(self) -> tuple[float, float]: ...

    @property
    def properties(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Annotation:
    """One outlined object: a valid ``polygon`` with an area, in level-0 pixels, and its ``label``.

    It is a MultiPolygon where one object was drawn in several parts. With ``ignore`` it is neither an object nor
    background. ``score`` is how sure a detector is of it, 1 for a person.
    """

    polygon: Polygon | MultiPolygon
    label: str
    ignore: bool = False
    score: float = 1.0


@dataclass(frozen=True)
class Annotations(Sequence[Annotation]):
    """The annotations of a slide, in the order of the file.

    ``num_repaired`` outlines crossed themselves; ``unused`` says how many items of the file are no
    objects for which reason: points, lines, without an area, scribbles, of a kind that is not read,
    or crumbs of less than 1 % of the object that they were drawn with.
    """

    objects: tuple[Annotation, ...]
    num_repaired: int = 0
    unused: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_dropped(self) -> int:
        """How many items of the file are no objects, for whatever reason."""
        return sum(self.unused.values())

    @property
    def unused_text(self) -> str:
        """Each reason with its number of items, such as ``line 2, point 3``."""
        return ", ".join(f"{reason} {count}" for reason, count in self.unused.items())

    def __len__(self) -> int:
        return len(self.objects)

    @overload
    def __getitem__(self, index: int) -> Annotation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Annotation, ...]: ...
    def __getitem__(self, index: int | slice) -> Annotation | tuple[Annotation, ...]:
        return self.objects[index]


@dataclass(frozen=True)
class Drawing:
    """One item of a file as it was drawn: ``geometry`` may be invalid, and is empty where it is no area.

    ``unused`` says why it is no object, where the reader knows; then its geometry is empty. With ``whole`` the parts
    of a multi-polygon are one object, and so are all drawings of one label and ``group``, unless that is "".
    """

    geometry: BaseGeometry
    label: str = UNCLASSIFIED
    ignore: bool = False
    unused: str = ""
    whole: bool = False
    group: str = ""


def unused(reason: str) -> Drawing:
    """An item of the file that is no object for ``reason``, such as ``point``, told with its count: ``point 3``."""
    return Drawing(Polygon(), unused=" ".join(reason.split())[:_MAX_REASON])


def collect(drawings: Iterable[Drawing]) -> Annotations:
    """The objects of all ``drawings``, repaired where need be.

    The parts of a multi-polygon are objects of their own, since one box around two of them would be wrong, unless the
    file says that they are one object (``Drawing.whole``). An outline that crosses itself is repaired
    (:func:`shapely.make_valid`) and stays one object, its largest part.
    """
    objects: list[Annotation] = []
    num_repaired = 0
    reasons: Counter[str] = Counter()
    for drawing in _grouped(drawings):
        drawn = []
        for outline in _outlines(drawing):
            cut, num_outside = _without_holes_outside(outline)
            drawn.append(cut)
            reasons[_HOLE_OUTSIDE] += num_outside
        parts = [max(areas, key=_area, default=None) for areas in map(repaired, drawn)]
        smallest = _MIN_PART * max((_area(part) for part in parts if part is not None), default=0.0)
        kept = [part for part in parts if part is not None and _area(part) >= smallest]
        found = [shapely.union_all(kept)] if drawing.whole and kept else kept
        objects += [Annotation(polygon, drawing.label, drawing.ignore) for polygon in found]
        num_repaired += sum(
            part is not None and not outline.is_valid for part, outline in zip(parts, drawn, strict=True)
        )
        reasons[_CRUMB] += sum(part is not None for part in parts) - len(kept)
        reasons[drawing.unused or _WITHOUT_AREA] += max(1 - len(parts), 0) + parts.count(None)
    return Annotations(tuple(objects), num_repaired, dict(sorted((+reasons).items())))


def _grouped(drawings: Iterable[Drawing]) -> Iterator[Drawing]:
    """``drawings``, where those of one label and group are one whole, in the place of the first."""
    together: dict[Any, list[Drawing]] = {}
    for place, drawing in enumerate(drawings):
        together.setdefault((drawing.label, drawing.group) if drawing.group else place, []).append(drawing)
    for first, *others in together.values():
        parts = [part for drawing in (first, *others) for part in _outlines(drawing) if not part.is_empty]
        yield replace(first, geometry=MultiPolygon(parts), whole=True) if others else first


def _outlines(drawing: Drawing) -> list[BaseGeometry]:
    return list(drawing.geometry.geoms) if isinstance(drawing.geometry, MultiPolygon) else [drawing.geometry]


def iter_polygons(geometry: BaseGeometry) -> Iterator[Polygon]:
    """The areas in any geometry, nested or not; points and lines have none."""
    if isinstance(geometry, Polygon):
        if geometry.area > 0:
            yield geometry
    else:
        for part in getattr(geometry, "geoms", ()):
            yield from iter_polygons(part)


def polygon_of(outline: Sequence[Any], holes: Iterable[Sequence[Any]] = ()) -> Polygon:
    """A polygon from points (x, y, ...); empty where the outline has no three different ones.

    Raises ValueError for a coordinate that is no number, not finite, or beyond any slide.
    """
    ring = _ring(outline)
    return Polygon(ring, [hole for hole in map(_ring, holes) if hole]) if ring else Polygon()


def number(value: Any) -> float:
    """A number, also as text and with a decimal comma, which some programs write under some locales."""
    return float(value.replace(",", ".") if isinstance(value, str) else value)


def is_set(value: Any, name: str) -> bool:
    """Whether the flag ``name`` is set: a truth value, 0 or 1, or text in any case. ValueError for anything else."""
    text = str(value).strip().lower().removesuffix(".0")
    if text not in _YES | _NO:
        raise ValueError(f"{name} is {value!r}, neither 0 nor 1")
    return text in _YES


def check_coordinates(values: Iterable[float]) -> None:
    """ValueError for a number that is not finite or beyond any slide."""
    for value in values:
        if not math.isfinite(value):
            raise ValueError("a coordinate is not a finite number")
        if abs(value) > _MAX_COORDINATE:
            raise ValueError(f"a coordinate is beyond any slide: {value:g}")


def box_of(x0: float, y0: float, x1: float, y1: float) -> Polygon:
    """The rectangle between any two opposite corners."""
    return polygon_of([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def ellipse_of(x: float, y: float, radius_x: float, radius_y: float) -> Polygon:
    """An ellipse with upright axes as a polygon of 64 vertices, four of them its extremes."""
    check_coordinates((x, y, radius_x, radius_y))
    turn = np.linspace(0, 2 * math.pi, _ELLIPSE_VERTICES, endpoint=False)
    return polygon_of(np.column_stack((x + radius_x * np.cos(turn), y + radius_y * np.sin(turn))).tolist())


def ellipse_within(x0: float, y0: float, x1: float, y1: float) -> Polygon:
    """The upright ellipse in the box between any two opposite corners."""
    return ellipse_of((x0 + x1) / 2, (y0 + y1) / 2, abs(x1 - x0) / 2, abs(y1 - y0) / 2)


def area_drawn_as(kind: str, points: Sequence[tuple[float, float]]) -> Polygon:
    """The polygon of ``points``; of a rectangle by two corners, or an ellipse by what its box is known from, that.

    ``kind`` is what the program calls the shape, in lower case. An ellipse has two opposite corners, all four, or its
    four extremes; of more points it is a polygon.
    """
    if len(points) < 2 or not ((kind == "rectangle" and len(points) == 2) or (kind in _OVALS and len(points) <= 4)):
        return polygon_of(points)
    xs, ys = zip(*points, strict=True)
    return (ellipse_within if kind in _OVALS else box_of)(min(xs), min(ys), max(xs), max(ys))


def rotated(polygon: Polygon, radians: float, x: float, y: float) -> Polygon:
    """``polygon`` without holes, turned around (x, y) from x towards y: clockwise on the screen.

    Raises ValueError where the angle is not finite.
    """
    turned = affinity.rotate(polygon, radians, origin=(x, y), use_radians=True)
    return polygon_of(turned.exterior.coords)


def with_holes(regions: Sequence[Drawing], holes: Sequence[Polygon]) -> Iterator[Drawing]:
    """``regions`` with the ``holes``, each in the smallest valid one that contains its inside.

    All are polygons without holes of their own, perhaps invalid. A hole in no region is an unused item.
    """
    outlines = [region.geometry for region in regions]
    areas = np.array([outline.area if outline.is_valid else math.inf for outline in outlines])
    tree = shapely.STRtree([outline if outline.is_valid else Polygon() for outline in outlines])
    cut: dict[int, list[LinearRing]] = {}
    outside = 0
    for hole in {hole.wkb: hole for hole in holes}.values():
        inside = shapely.make_valid(hole, method="structure", keep_collapsed=False)
        around = np.sort(tree.query(inside.representative_point(), predicate="within")) if inside.area else ()
        if len(around):
            cut.setdefault(int(around[areas[around].argmin()]), []).append(hole.exterior)
        else:
            outside += 1
    for i, region in enumerate(regions):
        yield replace(region, geometry=Polygon(region.geometry.exterior, cut[i])) if i in cut else region
    yield from (unused("negative region in no region") for _ in range(outside))


def is_named(slide: ImageFrame, name: str) -> bool:
    """Whether ``name``, with or without a folder (Windows' as well) and a suffix, is the slide's."""
    file = re.split(r"[\\/]", name)[-1].strip()
    return bool(file) and slide.name in (safe_name(file), safe_name(f"{file}.svs"))


def image_named_like(
    slide: SlideFrame | None, images: Sequence[dict[str, Any]], key: str, remedy: str
) -> dict[str, Any]:
    """The one of a file's ``images`` whose ``key`` names ``slide``; without a slide, the only one. Or UserError."""
    found = [image for image in images if slide is None or is_named(slide, str(image[key]))]
    if len(found) == 1:
        return found[0]
    several = f"it is of {'several images' if images else 'no image'}"
    if slide:
        several = f"{len(found)} of its {len(images)} images are named {slide.name!r}"
    raise UserError(several, remedy=remedy)


def stated_size(width: Any, height: Any) -> Size | None:
    """The size of its image that a file states, as numbers or text; None where it states none, or 0.

    Raises ValueError for a size that no image has.
    """
    wide, high = number(width or 0), number(height or 0)
    return Size(int(wide), int(high)) if wide and high else None


def scale_to(slide: ImageFrame | None, image: Size) -> float:
    """How many level-0 pixels a pixel of ``image`` spans, which is the whole slide or reduced by a whole factor.

    Raises WrongSizeError where the sizes do not fit; without a slide the factor is 1.
    """
    if slide is None:
        return 1.0
    factor = max(1, round(slide.size.width / image.width))
    if factor <= _MAX_REDUCTION and all(
        abs(whole / factor - part) < 1
        for whole, part in ((slide.size.width, image.width), (slide.size.height, image.height))
    ):
        return float(factor)
    raise WrongSizeError(
        f"made on an image of {image.width} x {image.height} px, but the slide has "
        f"{slide.size.width} x {slide.size.height}",
        remedy="give annotations made on the whole slide, at full size or reduced by a whole factor",
    )


def _ring(points: Sequence[Any]) -> LinearRing | None:
    xy = [(number(point[0]), number(point[1])) for point in points]
    check_coordinates(value for point in xy for value in point)
    return LinearRing(xy) if len(set(xy)) >= 3 else None


def repaired(geometry: BaseGeometry) -> list[Polygon]:
    """The valid areas of ``geometry``, which may cross itself; none of a scribble that does nothing else."""
    if not geometry.is_valid:
        x0, y0, x1, y1 = geometry.bounds
        if geometry.length**2 > _MAX_SCRIBBLE * (x1 - x0) * (y1 - y0):
            return []
        # The other method takes minutes for a few hundred crossings, and makes areas of holes that stick out.
        geometry = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    return [part for part in iter_polygons(geometry) if part.area >= _MIN_AREA]


def _without_holes_outside(drawn: BaseGeometry) -> tuple[BaseGeometry, int]:
    """``drawn`` without holes that lie off what they should be cut from, and their number; they are no holes of it."""
    if not isinstance(drawn, Polygon) or not len(drawn.interiors) or drawn.is_valid:
        return drawn, 0
    outline = Polygon(drawn.exterior).convex_hull
    inside = [hole for hole in drawn.interiors if outline.intersects(hole)]
    num_outside = len(drawn.interiors) - len(inside)
    return (Polygon(drawn.exterior, inside), num_outside) if num_outside else (drawn, 0)


def _area(polygon: Polygon) -> float:
    return float(polygon.area)
