"""How large a pixel is: the documented chain from what is stated to what is estimated, and never a guess."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from preprocess.base.errors import UserError
from preprocess.base.geometry import MAX_MPP, MIN_MPP, UNIT_UM, is_plausible_mpp

# Two sides that differ by less are one measurement made twice; by more than the second, one of them is wrong.
_SQUARE, _MAX_ASPECT = 1.01, 4.0
# A given value this far from the file's own is worth a word in the record; of two sources this far apart one is wrong.
_DISAGREES, _CONTRADICTS = 1.05, 1.5
# Resolutions that programs fill in for printers, up to what film scanners have.
_PRINT_STEPS_DPI, _MAX_PRINT_DPI, _PRINT_TOLERANCE = (50, 72, 96), 4800, 2e-5
_COMMON_DPI = (72, 96, 150, 300, 600, 1200, 2400, 4800)
# Whose tags are of the image that is read; others have directories of their own making.
_OWN_TAGS = ("", "aperio")
_VENDOR, _OME, _TAGS = "slide property openslide.mpp-x/y", "OME-TIFF PhysicalSizeX/Y", "TIFF resolution tags"
_REMEDY = "state it in um/px: the column mpp of the slides table, or the option --mpp where there is one"


@dataclass(frozen=True)
class Calibration:
    """Micrometres per level-0 pixel along x and along y, and ``source``: who says so.

    ``remark`` is what a user should know of it: another source that says something else.
    """

    mpp_x: float
    mpp_y: float
    source: str
    remark: str = ""

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
    4. ``fallback``: what the user states of slides that do not say, or in tags alone;
    5. the TIFF resolution tags, unless they are a printer's (such as 300 dpi); also in ImageJ's units;
    6. the objective power: 10 / power um/px, an estimate.

    ``properties`` are the slide's, under OpenSlide's names. Sides that differ by up to 1 % count as square. A statement
    of the user or an objective power that differs from what is taken by more than 1.5 times is remarked on. Raises
    UserError where none is left, where an SVS or an OME-TIFF states two sizes with more than that between, where
    ``given`` or ``fallback`` is implausible, or where one side is more than four times the other.
    """
    for value in (given, fallback):
        if value is not None and not is_plausible_mpp(value):
            raise UserError(
                f"the given mpp {value:g} is outside {MIN_MPP:g} to {MAX_MPP:g} um/px",
                path=path,
                remedy="give micrometres per level-0 pixel, such as 0.25 or 0.5",
            )
    stated, passed_over = _stated(properties)
    estimate = 10 / _number(properties, "openslide.objective-power")
    says = {one.source: one.mpp for one in stated}
    if is_plausible_mpp(estimate):
        says["objective power"] = estimate
    if given is not None:
        own = stated[0].mpp if stated else given
        note = f" (the file says {own:.4g})" if _differ(own, given, _DISAGREES) else ""
        return Calibration(given, given, f"given{note}", _remark(given, says))
    tags = [one for one in stated if one.source == _TAGS]
    for one in stated:
        if properties.get("openslide.vendor", "") in _OWN_TAGS and _differ(one.mpp, stated[0].mpp, _CONTRADICTS):
            raise UserError(
                f"two sizes of a pixel: {stated[0].source} {stated[0].mpp:.4g} um/px, {one.source} {one.mpp:.4g} um/px",
                path=path,
                remedy=_REMEDY,
            )
    if stated and (fallback is None or stated != tags):
        found = _squared(stated[0], path)
        remark = _remark(found.mpp, {"--mpp": fallback, **says} if fallback else says)
        if found.source == _OME and found.mpp_x == found.mpp_y == 1:
            remark = remark or "1 um/px is taken, which some programs fill in where they know no size: check it"
        return replace(found, remark=remark)
    if fallback is not None:
        note = f"its resolution tags say {tags[0].mpp:.4g}" if tags else "the file says none"
        return Calibration(fallback, fallback, f"--mpp ({note})", _remark(fallback, says))
    found_not = f" (passed over: {', '.join(passed_over)})" if passed_over else ""
    if is_plausible_mpp(estimate):
        remark = f"{estimate:g} um/px is estimated from its objective power{found_not}" if passed_over else ""
        return Calibration(estimate, estimate, "objective power (estimate)", remark)
    raise UserError(f"the slide does not say its mpp{found_not}", path=path, remedy=_REMEDY)


def _stated(properties: Mapping[str, str]) -> tuple[list[Calibration], list[str]]:
    """What the file states, the most trusted first, and the values that are none, such as a printer's resolution."""
    unit_um = _tag_unit_um(properties)
    # For a generic TIFF, OpenSlide's value is made of the tags.
    vendor = "openslide.mpp" if properties.get("openslide.vendor") != "generic-tiff" else ""
    candidates = {
        _VENDOR: [_number(properties, f"{vendor}-{axis}") for axis in "xy"],
        _OME: [_number(properties, f"ome.physical-size-{axis}") for axis in "xy"],
        _TAGS: [unit_um / _number(properties, f"tiff.{axis}Resolution") for axis in "XY"],
    }
    stated, passed_over = [], []
    for source, sides in candidates.items():
        if source == _TAGS and any(map(_is_of_print, sides)):
            passed_over.append(f"{source}: {25_400 / sides[0]:.6g} dpi, as for print")
        elif all(map(is_plausible_mpp, sides)):
            stated.append(Calibration(sides[0], sides[1], source))
        elif not all(map(math.isnan, sides)):
            passed_over.append(f"{source}: {sides[0]:g}" + (f" by {sides[1]:g}" if sides[0] != sides[1] else ""))
    return stated, passed_over


def _tag_unit_um(properties: Mapping[str, str]) -> float:
    """The unit of the TIFF resolution tags in um, NaN where they have none; ImageJ names it in the description."""
    description = properties.get("tiff.ImageDescription", "")
    imagej = re.search(r"^unit=(.*)$", description, re.MULTILINE) if description.startswith("ImageJ=") else None
    unit = imagej[1].strip().lower() if imagej else properties.get("tiff.ResolutionUnit", "")
    return UNIT_UM.get(unit, math.nan)


def _is_of_print(mpp: float) -> bool:
    """Whether ``mpp`` is a round number of dots per inch, as programs state it that know of no microscope."""
    dpi = 25_400 / mpp
    if math.isnan(dpi) or dpi > _MAX_PRINT_DPI * (1 + _PRINT_TOLERANCE):
        return False
    rounded = [float(round(dpi / step) * step) for step in _PRINT_STEPS_DPI]
    # Written per centimetre: as the same number, or in whole numbers.
    rounded += [2.54 * per_cm for one in _COMMON_DPI for per_cm in (one, round(one / 2.54))]
    return any(abs(dpi - one) <= _PRINT_TOLERANCE * dpi for one in rounded)


def _differ(one: float, other: float, factor: float) -> bool:
    return max(one / other, other / one) > factor


def _remark(mpp: float, says: Mapping[str, float]) -> str:
    """Which of several sources contradict the ``mpp`` that is taken."""
    others = [f"{source} {value:.4g}" for source, value in says.items() if _differ(value, mpp, _CONTRADICTS)]
    return f"{mpp:.4g} um/px is taken, but others say: {', '.join(others)}" if others else ""


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
    """A finite number from the properties that is not 0, or NaN."""
    try:
        value = float(properties.get(key, "nan").replace(",", "."))
    except ValueError:
        return math.nan
    return value if value and math.isfinite(value) else math.nan
