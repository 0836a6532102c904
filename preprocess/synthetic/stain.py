"""Colour by optical density (Beer-Lambert): materials -> stains -> light.

Stain vectors (optical density in R, G, B of unit length): haematoxylin, eosin and Schiff's reagent as in the
"H&E 2" and "H PAS" sets of G. Landini's Colour Deconvolution for ImageJ, after A. C. Ruifrok and D. A. Johnston,
"Quantification of histochemical staining by color deconvolution", Anal Quant Cytol Histol 23 (2001) 291-299;
their blue share is raised a little towards what slide scanners see. The other vectors are set by eye after what the
dyes look like in solution (acid fuchsin, aniline blue, light green) and on the slide (silver: nearly black).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

HAEMATOXYLIN = (0.644, 0.717, 0.267)
_IRON_HAEMATOXYLIN = (0.60, 0.65, 0.47)
_FUCHSIN = (0.10, 0.83, 0.55)
DYES = {
    "HE": (HAEMATOXYLIN, (0.093, 0.954, 0.343)),
    "PAS": (HAEMATOXYLIN, (0.195, 0.930, 0.340)),
    "TRICHROME_BLUE": (_IRON_HAEMATOXYLIN, _FUCHSIN, (0.85, 0.49, 0.18)),
    "TRICHROME_GREEN": (_IRON_HAEMATOXYLIN, _FUCHSIN, (0.83, 0.29, 0.47)),
    "SILVER": (HAEMATOXYLIN, (0.15, 0.93, 0.34), (0.58, 0.60, 0.55)),
}
"""What each stain is made of: the nuclear dye first, then counterstains, the one for matrix last."""
STAIN_TURNS = ("PAS", "HE", "TRICHROME_BLUE", "PAS", "SILVER", "HE", "TRICHROME_GREEN")
"""The order in which the stains of varied images are taken, the commonest twice."""
# Optical density (base 10) of 100 units of chromatin, cytoplasm and matrix, for each dye.
_UPTAKE = {
    "HE": ((0.72, 0.055, 0.035), (0.03, 0.215, 0.175)),
    "PAS": ((0.70, 0.030, 0.05), (0.06, 0.165, 0.44)),
    "TRICHROME_BLUE": ((0.62, 0.05, 0.04), (0.10, 0.42, 0.14), (0.02, 0.02, 0.34)),
    "TRICHROME_GREEN": ((0.62, 0.05, 0.04), (0.10, 0.42, 0.14), (0.02, 0.02, 0.34)),
    "SILVER": ((0.55, 0.06, 0.05), (0.03, 0.22, 0.10), (0.10, 0.02, 0.95)),
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


def make_stain(rng: np.random.Generator, name: str, spread: float = 1.0) -> Stain:
    """One laboratory's version of a stain: vectors turned a little, each amount more or less.

    ``spread`` multiplies how far laboratories differ. Above 1 the nuclear dye also clings to what it should not, and
    the light of the empty slide is greyer.
    """
    dyes = len(DYES[name])
    vectors = np.array(DYES[name]) + rng.normal(0, 0.025, (dyes, 3)) * spread
    vectors = np.maximum(vectors, 0.02)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    change = rng.normal(1, 0.08, (dyes, 3)).clip(0.75, 1.25) - 1
    uptake = np.array(_UPTAKE[name]) * (1 + spread * change).clip(0.2)
    uptake *= rng.uniform(0.85, 1.2, (dyes, 1)) ** spread
    glass = rng.uniform(238, 248) + rng.normal(0, 1.5, 3)
    if spread > 1:
        uptake[0, 1:] += (spread - 1) * rng.uniform(0, 0.04, 2)
        glass -= (spread - 1) * rng.uniform(0, 10)
    return Stain((vectors.T @ uptake) / 100, glass.clip(200, 252))
