"""Real images of PAS slides in the colours of other laboratories and other stains.

The image is taken apart by optical density (Beer-Lambert) into the materials that ``parenchyma.py`` paints with, and
developed again: the texture stays that of real tissue, and what a model may learn from its colour is gone.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from preprocess.base.errors import UserError
from preprocess.base.images import opencv_name
from preprocess.synthetic.stain import DYES, make_stain

_DENSEST_PERCENTILE = 99.0
# Optical density of Schiff's reagent from which a place is matrix (basement membrane, mesangium), not cytoplasm.
_MATRIX_FROM, _MATRIX_ALL = 0.17, 0.36
_SOLID = (0.70, 0.165, 0.44)
"""Optical density of 100 units of chromatin, cytoplasm and matrix in a PAS stain, as in ``stain.py``."""
_USUAL_DENSITY = (0.75, 0.60)
"""What the densest places of a PAS image have of each dye; images are brought there first."""


def materials_of(image: np.ndarray) -> np.ndarray:
    """uint8 materials (h, w, 3) of an RGB uint8 image (h, w, 3) of a PAS slide: chromatin, cytoplasm, matrix."""
    glass = np.percentile(image.reshape(-1, 3), 98, axis=0).clip(128)
    density = -np.log10((image.astype(np.float32).clip(1) / glass).clip(max=1))
    vectors = np.array(DYES["PAS"])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rest = np.cross(*vectors)
    amounts = density @ np.linalg.inv(np.vstack([vectors, rest / np.linalg.norm(rest)]))
    nuclear, schiff = (amounts[..., index].clip(0) for index in range(2))
    stained = density.sum(axis=2) > 0.15
    if stained.any():
        nuclear, schiff = (
            dye * usual / max(float(np.percentile(dye[stained], _DENSEST_PERCENTILE)), 0.1)
            for dye, usual in zip((nuclear, schiff), _USUAL_DENSITY, strict=True)
        )
    matrix = ((schiff - _MATRIX_FROM) / (_MATRIX_ALL - _MATRIX_FROM)).clip(0, 1)
    parts = (nuclear / _SOLID[0], (1 - matrix) * schiff / _SOLID[1], matrix * schiff / _SOLID[2])
    return np.stack([np.round(100 * part).clip(0, 255) for part in parts], axis=-1).astype(np.uint8)


def restain(rng: np.random.Generator, image: np.ndarray, stain: str, spread: float) -> np.ndarray:
    """An RGB uint8 image (h, w, 3) of a PAS slide as another laboratory would have stained it (``make_stain``)."""
    return make_stain(rng, stain, spread).develop(materials_of(image))


def read_rgb(path: str | Path) -> np.ndarray:
    """A plain image as RGB uint8 (h, w, 3). Raises UserError where it cannot be read."""
    image = cv2.imread(opencv_name(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise UserError("not a readable image", path=path, remedy="restaining takes plain images, such as JPEG tiles")
    return image
