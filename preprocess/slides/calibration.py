"""How large a pixel is: the documented chain from what is stated to what is estimated, and never a guess."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from preprocess.base.errors import UserError
from preprocess.base.geometry import MAX_MPP, MIN_MPP, is_plausible_mpp

# Two sides that differ by less are one measurement made twice; by more than the second, one of them is wrong.
_SQUARE, _MAX_ASPECT = 1.01, 4.0
# A given value this far from the file's own is worth a word in the record.
_DISAGREES = 1.05
_TIFF_UNIT_UM = {"centimeter": 10_000.0, "inch": 25_400.0}
_REMEDY = "state it in um/px: the column mpp of the slides table, or the option --mpp where there is one"


@dataclass(frozen=True)
class Calibration:
    """Micrometres per level-0 pixel along x and along y, and ``source``: who says so."""

    mpp_x: float
    mpp_y: float
    source: str

    @property
    def mpp(self) -> float:
        """The side of the square of the same area: the geometric mean, so that areas are exact."""
        return self.mpp_x if self.mpp_x == self.mpp_y else math.sqrt(self.mpp_x * self.mpp_y)


def calibrate(
    path: Path, properties: Mapping[str, str], given: float | None = None, fallback: float | None = None
) -> Calibration:
    """The size of a pixel of the slide at ``path``, from the first of these that gives a plausible value:

    1. ``given``: what the user states of this slide; the source notes where the file disagrees;
    2. the vendor's value as OpenSlide reports it: ``openslide.mpp-x`` and ``-y`` (DICOM's Pixel Spacing too);
    3. OME-TIFF's PhysicalSizeX and PhysicalSizeY;
    4. the TIFF resolution tags;
    5. ``fallback``: what the user states of slides that do not say;
    6. the objective power: 10 / power um/px, an estimate.

    ``properties`` are the slide's, under OpenSlide's names. Sides that differ by up to 1 % count as square. Raises
    UserError where none is left, where ``given`` or ``fallback`` is implausible, or where one side is more than four
    times the other.
    """
    for value in (given, fallback):
        if value is not None and not is_plausible_mpp(value):
            raise UserError(
                f"the given mpp {value:g} is outside {MIN_MPP:g} to {MAX_MPP:g} um/px",
                path=path,
                remedy="give micrometres per level-0 pixel, such as 0.25 or 0.5",
            )
    stated, implausible = _stated(properties)
    if given is not None:
        own = stated.mpp if stated else given
        note = f" (the file says {own:.4g})" if max(own / given, given / own) > _DISAGREES else ""
        return Calibration(float(given), float(given), f"given{note}")
    if stated is not None:
        return _squared(stated, path)
    if fallback is not None:
        return Calibration(float(fallback), float(fallback), "--mpp (the file says none)")
    estimate = 10 / _number(properties, "openslide.objective-power")
    if is_plausible_mpp(estimate):
        return Calibration(estimate, estimate, "objective power (estimate)")
    found = f" (implausible: {', '.join(implausible)})" if implausible else ""
    raise UserError(f"the slide does not say its mpp{found}", path=path, remedy=_REMEDY)


def _stated(properties: Mapping[str, str]) -> tuple[Calibration | None, list[str]]:
    """What the file states, and the implausible values passed over on the way."""
    unit_um = _TIFF_UNIT_UM.get(properties.get("tiff.ResolutionUnit", ""), math.nan)
    candidates = {
        "slide property openslide.mpp-x/y": [_number(properties, f"openslide.mpp-{axis}") for axis in "xy"],
        "OME-TIFF PhysicalSizeX/Y": [_number(properties, f"ome.physical-size-{axis}") for axis in "xy"],
        "TIFF resolution tags": [unit_um / _number(properties, f"tiff.{axis}Resolution") for axis in "XY"],
    }
    implausible: list[str] = []
    for source, (mpp_x, mpp_y) in candidates.items():
        if is_plausible_mpp(mpp_x) and is_plausible_mpp(mpp_y):
            return Calibration(mpp_x, mpp_y, source), implausible
        if not (math.isnan(mpp_x) or math.isnan(mpp_y)):
            implausible.append(f"{source}: {mpp_x:g}" + (f" by {mpp_y:g}" if mpp_x != mpp_y else ""))
    return None, implausible


def _squared(found: Calibration, path: Path) -> Calibration:
    """``found``, as one number where its sides are as good as equal."""
    low, high = sorted((found.mpp_x, found.mpp_y))
    if high > _MAX_ASPECT * low:
        raise UserError(
            f"pixels of {found.mpp_x:g} by {found.mpp_y:g} um ({found.source}) are no microscope's",
            path=path,
            remedy="state one mpp if the file is wrong, or resample the slide",
        )
    if high > _SQUARE * low:
        return found
    mean = (low + high) / 2
    return Calibration(mean, mean, found.source)


def _number(properties: Mapping[str, str], key: str) -> float:
    """A positive finite number from the properties, or NaN."""
    try:
        value = float(properties.get(key, "nan"))
    except ValueError:
        return math.nan
    return value if 0 < value < math.inf else math.nan
