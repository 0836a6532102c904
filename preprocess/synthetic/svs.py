"""Tiled pyramids that OpenSlide opens: Aperio's SVS flavour, and a generic TIFF that states no pixel size.

The same image gives the same bytes on every run: no time stamp, no software version, one writing thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from preprocess.base.files import atomic_path

TILE_PX = 256
THUMBNAIL_PX = 768
_BIGTIFF_ABOVE_BYTES = 3 << 30


def write_svs(
    path: str | Path,
    image: np.ndarray,
    *,
    mpp: float | None = 0.5,
    objective_power: int | None = 20,
    downsamples: Sequence[int] = (4, 16),
    quality: int = 90,
) -> Path:
    """Write an Aperio-style SVS pyramid, atomically, and return its path.

    ``image`` is uint8 RGB (h, w, 3) at level 0; lower levels are area averages of it. ``mpp`` (um per
    level-0 pixel) and ``objective_power`` are left out of the description where None, as some scanners do.
    """
    path = Path(path)
    height, width = image.shape[:2]
    properties = f"JPEG/RGB Q={quality}"
    properties += f"|AppMag = {objective_power}" if objective_power is not None else ""
    properties += f"|MPP = {mpp:.4f}" if mpp is not None else ""
    properties += f"|ScanScope ID = SYNTHETIC|Filename = {path.stem}"
    base = f"Aperio Image Library v12.0.15 \r\n{width}x{height} [0,0 {width}x{height}] ({TILE_PX}x{TILE_PX})"

    def describe(level: np.ndarray) -> str:
        return f"{base} -> {level.shape[1]}x{level.shape[0]} {properties}"

    options = _jpeg_options(quality)
    tiles = {"tile": (TILE_PX, TILE_PX), "maxworkers": 1, **options}
    with atomic_path(path) as temporary, _writer(temporary, image) as tiff:
        tiff.write(image, description=f"{base} {properties}", **tiles)
        thumbnail = _area_average(image, -(-max(width, height) // THUMBNAIL_PX))
        tiff.write(thumbnail, rowsperstrip=16, description=describe(thumbnail), **options)
        for level in _levels(image, downsamples):
            tiff.write(level, subfiletype=0, description=describe(level), **tiles)
    return path


def write_plain_tiff(
    path: str | Path, image: np.ndarray, *, downsamples: Sequence[int] = (4, 16), quality: int = 90
) -> Path:
    """Write a generic tiled pyramidal TIFF, atomically, and return its path.

    It states no pixel size: its resolution has no unit, so OpenSlide reports no mpp. ``image`` is uint8
    RGB (h, w, 3) at level 0; lower levels are area averages, flagged as reduced images.
    """
    path = Path(path)
    tiles = {"tile": (TILE_PX, TILE_PX), "maxworkers": 1, **_jpeg_options(quality)}
    with atomic_path(path) as temporary, _writer(temporary, image) as tiff:
        tiff.write(image, **tiles)
        for level in _levels(image, downsamples):
            tiff.write(level, subfiletype=1, **tiles)
    return path


def _writer(path: Path, image: np.ndarray) -> tifffile.TiffWriter:
    return tifffile.TiffWriter(path, bigtiff=image.nbytes > _BIGTIFF_ABOVE_BYTES)


def _jpeg_options(quality: int) -> dict[str, Any]:
    return {
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": quality},
        "subsampling": (2, 1),
        "metadata": None,
        "software": False,
    }


def _levels(image: np.ndarray, downsamples: Sequence[int]) -> list[np.ndarray]:
    """The lower levels; each is averaged from the one above where the factors divide, which is the same and faster."""
    levels, above, above_factor = [], image, 1
    for factor in downsamples:
        if factor % above_factor:
            above, above_factor = image, 1
        above = _area_average(above, factor // above_factor)
        above_factor = factor
        levels.append(above)
    return levels


def _area_average(image: np.ndarray, factor: int) -> np.ndarray:
    """``image`` averaged over blocks of ``factor`` x ``factor``; an incomplete last row or column is left out."""
    height, width = (max(1, side // factor) for side in image.shape[:2])
    return cv2.resize(image[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)
