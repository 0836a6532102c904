"""One random draw for a tile pair, built for each of its two sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fvcore.transforms.transform import BlendTransform, HFlipTransform, Transform, TransformList, VFlipTransform


class TransposeTransform(Transform):
    """Mirror at the main diagonal: with the two flips, all eight symmetries of the square."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.swapaxes(img, 0, 1)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords[:, ::-1]


@dataclass(frozen=True)
class Augmentation:
    """The draw: geometry (flips, transposition) and colour (factors around 1)."""

    flip_x: bool
    flip_y: bool
    transpose: bool
    brightness: float
    contrast: float
    saturation: float

    @classmethod
    def draw(cls, rng: np.random.Generator, color_jitter: float) -> Augmentation:
        flips = rng.random(3) < 0.5
        factors = rng.uniform(1 - color_jitter, 1 + color_jitter, 3)
        return cls(*(bool(f) for f in flips), *(float(f) for f in factors))

    def build(self, image: np.ndarray) -> TransformList:
        """The transforms for an RGB uint8 image (h, w, 3) of either magnification."""
        height, width = image.shape[:2]
        gray = image @ np.array([0.299, 0.587, 0.114])
        transforms: list[Transform] = []
        if self.flip_x:
            transforms.append(HFlipTransform(width))
        if self.flip_y:
            transforms.append(VFlipTransform(height))
        if self.transpose:
            transforms.append(TransposeTransform())
        # Colour after geometry on one image: grey must have been moved like the image it blends with.
        gray = TransformList(list(transforms)).apply_image(gray[..., None])
        transforms += [
            BlendTransform(gray, 1 - self.saturation, self.saturation),
            BlendTransform(gray.mean(), 1 - self.contrast, self.contrast),
            BlendTransform(0, 1 - self.brightness, self.brightness),
        ]
        return TransformList(transforms)
