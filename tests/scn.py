"""A small Leica SCN slide: the format in which OpenSlide itself states where the scanned part lies."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile

_NM_PER_PX = 500
_NAMESPACE = "http://www.leica-microsystems.com/scn/2010/10/01"


def write_scn(path: Path, image: np.ndarray, *, size_wh: tuple[int, int], offset_xy: tuple[int, int]) -> Path:
    """``image`` (uint8 RGB, 0.5 um/px) scanned at ``offset_xy`` on a slide of ``size_wh`` level-0 pixels.

    Levels 1 and 4; all sizes and offsets are multiples of 4. SCN counts in nanometres.
    """
    levels = [image, cv2.resize(image, None, fx=1 / 4, fy=1 / 4, interpolation=cv2.INTER_AREA)]
    dimensions = "".join(
        f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{r}" ifd="{r + 1}"/>'
        for r, level in enumerate(levels)
    )
    slide = 'sizeX="{}" sizeY="{}"'.format(*(side * _NM_PER_PX for side in size_wh))
    view = 'sizeX="{}" sizeY="{}" offsetX="{}" offsetY="{}"'.format(
        *(side * _NM_PER_PX for side in (image.shape[1], image.shape[0], *offset_xy))
    )
    settings = (
        "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
        "<numericalAperture>0.7</numericalAperture><illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings>"
    )
    macro = (
        f'<image><view {slide} offsetX="0" offsetY="0"/>{settings}'
        '<pixels><dimension sizeX="256" sizeY="256" r="0" ifd="0"/></pixels></image>'
    )
    main = f"<image><view {view}/>{settings}<pixels>{dimensions}</pixels></image>"
    collection = f"<collection {slide}><barcode>synthetic</barcode>{macro}{main}</collection>"
    description = f'<?xml version="1.0"?><scn xmlns="{_NAMESPACE}">{collection}</scn>'
    options = {"photometric": "rgb", "tile": (256, 256), "compression": "jpeg", "metadata": None, "software": False}
    options["compressionargs"] = {"level": 95}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(np.full((256, 256, 3), 240, np.uint8), description=description, **options)
        for factor, level in zip((1, 4), levels, strict=True):
            pixels_per_cm = 10_000_000 / (_NM_PER_PX * factor)
            tiff.write(level, resolution=(pixels_per_cm, pixels_per_cm), resolutionunit="CENTIMETER", **options)
    return path
