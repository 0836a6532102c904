"""Tile pairs of noise and discs, where only their size and their number of objects matter."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from preprocess.base.images import write_image
from preprocess.tiles.manifest import BOXES_COLUMNS, TILES_COLUMNS, Manifest

LABEL = "Glomerulus"


def write_random_pairs(folder: str | Path, count: int, *, tile_px: int, scale: int, objects: int = 2) -> Manifest:
    """A tile set of ``count`` training pairs, as make_tiles.py would leave it, in the file formats of a real one.

    Args:
        tile_px: side of the teacher's tiles; the student's are ``scale`` times smaller.
        objects: discs in each tile, a tenth to a fifth of its side in radius.
    """
    root, rng, student_px = Path(folder), np.random.default_rng(0), tile_px // scale
    tiles, boxes = [], []
    for number in range(count):
        image = np.clip(rng.normal((220, 170, 200), 12, (tile_px, tile_px, 3)), 0, 255).astype(np.uint8)
        for _ in range(objects):
            radius = int(rng.integers(tile_px // 10, tile_px // 5))
            x, y = (int(v) for v in rng.integers(radius, tile_px - radius, 2))
            cv2.circle(image, (x, y), radius, (140, 60, 130), -1)
            corners = [float(v) for v in (x - radius, y - radius, x + radius, y + radius)]
            boxes.append((str(number), LABEL, *corners, 1.0, False))
        small = cv2.resize(image, (student_px, student_px), interpolation=cv2.INTER_AREA)
        files = f"teacher_{number}.jpg", f"student_{number}.png"
        for file, pixels in zip(files, (image, small), strict=True):
            write_image(root / file, pixels)
        where = (0.0, 0.0, float(tile_px), float(tile_px), 1.0, 1.0)
        sizes = (files[0], tile_px, tile_px, files[1], student_px, student_px)
        tiles.append((str(number), "random", "random.svs", "random", "train", True, *where, *sizes, objects))
    manifest = Manifest(
        root=root,
        tiles=pd.DataFrame(tiles, columns=list(TILES_COLUMNS)),
        boxes=pd.DataFrame(boxes, columns=list(BOXES_COLUMNS)),
        labels=[LABEL],
        teacher_mpp=1.0,
        student_mpp=float(scale),
    )
    manifest.write(root)
    return manifest
