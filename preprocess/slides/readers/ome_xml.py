"""What the OME-XML of an OME-TIFF says of its images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import tifffile
from defusedxml import DefusedXmlException, ElementTree

from preprocess.base.geometry import UNIT_UM


@dataclass(frozen=True)
class OmeImage:
    """One image: its name, width and height in pixels, um per pixel along x and y (NaN: not said), the names of its
    channels, and the power of its objective as it stands there."""

    name: str
    wh: tuple[int, int]
    mpp_xy: tuple[float, float]
    channels: tuple[str, ...] = ()
    power: str = ""

    @property
    def properties(self) -> dict[str, str]:
        """Under OpenSlide's names; OME's own under ``ome.``."""
        sizes = {f"ome.physical-size-{axis}": str(value) for axis, value in zip("xy", self.mpp_xy, strict=True)}
        return sizes | ({"openslide.objective-power": self.power} if self.power else {})


def read_ome_xml(text: str | None) -> list[OmeImage]:
    """The images of an OME-XML, in its order; none where it is not readable."""
    try:
        root = ElementTree.fromstring(text or "")
    except (ParseError, DefusedXmlException):
        return []
    powers = {one.get("ID"): one.get("NominalMagnification", "") for one in root.iterfind(".//{*}Objective")}
    images = []
    for image in root.iterfind("{*}Image"):
        pixels = image.find("{*}Pixels")
        if pixels is None:
            continue
        settings = image.find("{*}ObjectiveSettings")
        own = powers.get(settings.get("ID"), "") if settings is not None else ""
        images.append(
            OmeImage(
                name=image.get("Name", ""),
                wh=(_whole(pixels.get("SizeX")), _whole(pixels.get("SizeY"))),
                mpp_xy=(_length_um(pixels, "PhysicalSizeX"), _length_um(pixels, "PhysicalSizeY")),
                channels=tuple(channel.get("Name", "") for channel in pixels.iterfind("{*}Channel")),
                power=own or (next(iter(powers.values())) if len(powers) == 1 else ""),
            )
        )
    return images


def ome_files(path: Path) -> list[Path]:
    """The files below its folder of which an OME-TIFF consists beside ``path``, as its OME-XML names them."""
    try:
        with tifffile.TiffFile(path) as tiff:
            root = ElementTree.fromstring(tiff.ome_metadata) if tiff.is_ome else None
    except Exception:  # damaged: whoever opens it will say so
        return []
    named = [] if root is None else root.iterfind(".//{*}UUID[@FileName]")
    names = {Path(one.get("FileName", "")) for one in named}
    files = [path.parent / name for name in names if not name.is_absolute() and ".." not in name.parts]
    return [file for file in files if file.is_file() and file != path]


def _length_um(pixels: Element, name: str) -> float:
    # OME leaves the unit out for its default; "pixel" and "reference frame" are no lengths.
    unit_um = UNIT_UM.get(pixels.get(f"{name}Unit", "µm").strip(), math.nan)
    try:
        return unit_um * float(pixels.get(name, "nan").replace(",", "."))  # written under some locales
    except ValueError:
        return math.nan


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
