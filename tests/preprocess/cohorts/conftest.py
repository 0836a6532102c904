"""Small slides with glomeruli of known place, written the ways that the cohorts' files are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile

from preprocess.slides.table import read_slides_csv
from preprocess.tiles.manifest import Manifest
from tools import make_tiles

SIZE_WH = (640, 520)
GLOMERULI = {"small": (150, 140, 40), "large": (430, 350, 70)}
"""Centre and radius, level-0 pixels."""


def kidney(shift: int = 0) -> np.ndarray:
    """Pink tissue with two dark discs, moved right by ``shift``: uint8 RGB (520, 640, 3)."""
    rng = np.random.default_rng(shift)
    image = rng.normal((222, 150, 190), 8, (SIZE_WH[1], SIZE_WH[0], 3))
    for x, y, radius in GLOMERULI.values():
        cv2.circle(image, (x + shift, y), radius, (110, 50, 140), -1)
    return np.clip(image, 0, 255).astype(np.uint8)


def mask(shift: int = 0, value: int = 1) -> np.ndarray:
    """The discs of :func:`kidney`: uint8 (520, 640)."""
    image = np.zeros(SIZE_WH[::-1], np.uint8)
    for x, y, radius in GLOMERULI.values():
        cv2.circle(image, (x + shift, y), radius, value, -1)
    return image


def boxes(shift: int = 0) -> np.ndarray:
    """The boxes of the discs, level-0 pixels, by their left edge: (2, 4)."""
    return np.array([[x + shift - r, y - r, x + shift + r + 1, y + r + 1] for x, y, r in GLOMERULI.values()], float)


def write_tiff(path, image, kind="tiles", **options):
    """``image`` as a TIFF without a pixel size: in tiles, in strips, or in planes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "planes":
        image, options = np.moveaxis(image, 2, 0), {"planarconfig": "separate", "photometric": "rgb", **options}
    elif kind == "tiles":
        options = {"tile": (256, 256), **options}
    else:
        options = {"rowsperstrip": 64, **options}
    tifffile.imwrite(path, image, compression="zlib", **options)


@pytest.fixture
def cut(tmp_path):
    """Cut the slides of a table into one pair each, at 0.5 and 2 um/px: table and manifest."""

    def run(table, *options):
        output = tmp_path / "tiles"
        scale = ["--teacher-mpp", "0.5", "--student-mpp", "2", "--tile-px", "1024", "--workers", "0"]
        assert make_tiles.main([str(table), "--output-dir", str(output), *scale, *options]) == 0
        return read_slides_csv(table), Manifest.read(output)

    return run


def boxes_of(manifest, slide):
    """The boxes of a slide in a manifest of one tile a slide, by their left edge."""
    ids = manifest.tiles[manifest.tiles["slide"] == slide]["tile_id"]
    found = manifest.boxes[manifest.boxes["tile_id"].isin(ids)]
    return found[["x0_l0", "y0_l0", "x1_l0", "y1_l0"]].sort_values("x0_l0").to_numpy()


def splits_of(table, column="patient"):
    """The set of splits of each patient."""
    return table.groupby(column)["split"].agg(set).to_dict()
