"""Colour by optical density (Beer-Lambert): materials -> stains -> light.

Stain vectors (optical density in R, G, B of unit length): haematoxylin, eosin and Schiff's reagent as in the
"H&E 2" and "H PAS" sets of G. Landini's Colour Deconvolution for ImageJ, after A. C. Ruifrok and D. A. Johnston,
"Quantification of histochemical staining by color deconvolution", Anal Quant Cytol Histol 23 (2001) 291-299;
their blue share is raised a little towards what slide scanners see.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

HAEMATOXYLIN = (0.644, 0.717, 0.267)
COUNTERSTAIN = {"HE": (0.093, 0.954, 0.343), "PAS": (0.195, 0.930, 0.340)}
# Optical density (base 10) of 100 units of chromatin, cytoplasm and matrix: in haematoxylin and in the counterstain.
_UPTAKE = {
    "HE": ((0.72, 0.055, 0.035), (0.03, 0.215, 0.175)),
    "PAS": ((0.70, 0.030, 0.05), (0.06, 0.165, 0.44)),
}
_CODES_PER_DENSITY = 150.0


@dataclass(frozen=True)
class Stain:
    """Density per unit of material, (3 colours, 3 materials), and the colour of the empty slide, RGB 0-255."""

    density: np.ndarray
    glass: np.ndarray

    def develop(self, materials: np.ndarray) -> np.ndarray:
        """uint8 RGB image of uint8 (rows, columns, 3) materials."""
        codes = cv2.transform(materials, (self.density * _CODES_PER_DENSITY).astype(np.float32))
        table = self.glass * 10.0 ** (-np.arange(256)[:, None] / _CODES_PER_DENSITY)
        return cv2.LUT(codes, np.round(table).astype(np.uint8)[:, None, :])


def make_stain(rng: np.random.Generator, name: str) -> Stain:
    """One laboratory's version of a stain: vectors turned a little, each amount more or less."""
    vectors = np.array([HAEMATOXYLIN, COUNTERSTAIN[name]]) + rng.normal(0, 0.025, (2, 3))
    vectors = np.maximum(vectors, 0.02)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    uptake = np.array(_UPTAKE[name]) * rng.normal(1, 0.08, (2, 3)).clip(0.75, 1.25)
    uptake *= rng.uniform(0.85, 1.2, (2, 1))
    glass = rng.uniform(238, 248) + rng.normal(0, 1.5, 3)
    return Stain((vectors.T @ uptake) / 100, glass.clip(230, 252))
