"""Tiled pyramids that OpenSlide opens: Aperio's SVS flavour, and a generic TIFF that states no pixel size.

The same image gives the same bytes on every run: no time stamp, no software version, one writing thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    height, width = image.shape[:2]
    properties = f"JPEG/RGB Q={quality}"
    properties += f"|AppMag = {objective_power}" if objective_power is not None else ""
    properties += f"|MPP = {mpp:.4f}" if mpp is not None else ""
    properties += f"|ScanScope ID = SYNTHETIC|Filename = {Path(path).stem}"
    base = f"Aperio Image Library v12.0.15 \r\n{width}x{height} [0,0 {width}x{height}] ({TILE_PX}x{TILE_PX})"

    def describe(level: np.ndarray) -> str:
        made = "" if level is image else f"-> {level.shape[1]}x{level.shape[0]} "
        return f"{base} {made}{properties}"

    return _write_pyramid(path, image, downsamples, quality, describe)


def write_plain_tiff(path: str | Path, image: np.ndarray, *, quality: int = 90) -> Path:
    """Write a generic tiled pyramidal TIFF, atomically, and return its path.

    It states no pixel size: its resolution has no unit, so OpenSlide reports no mpp. ``image`` is uint8
    RGB (h, w, 3) at level 0; lower levels are area averages, flagged as reduced images.
    """
    return _write_pyramid(path, image, (4, 16), quality)


def _write_pyramid(
    path: str | Path,
    image: np.ndarray,
    downsamples: Sequence[int],
    quality: int,
    describe: Callable[[np.ndarray], str] | None = None,
) -> Path:
    """Write ``image`` and its lower levels; with ``describe``, as Aperio does: each described, and a thumbnail."""
    options: dict[str, Any] = {
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": quality},
        "subsampling": (2, 1),
        "metadata": None,
        "software": False,
    }
    tiles = {"tile": (TILE_PX, TILE_PX), "maxworkers": 1, **options}
    is_large = image.nbytes > _BIGTIFF_ABOVE_BYTES
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=is_large) as tiff:
        tiff.write(image, description=describe and describe(image), **tiles)
        if describe is not None:
            thumbnail = _area_average(image, -(-max(image.shape) // THUMBNAIL_PX))
            tiff.write(thumbnail, rowsperstrip=16, description=describe(thumbnail), **options)
        for level in _levels(image, downsamples):
            kind = 1 if describe is None else 0  # Aperio does not flag its levels as reduced images
            tiff.write(level, subfiletype=kind, description=describe and describe(level), **tiles)
    return Path(path)


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
