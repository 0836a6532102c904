"""One random draw for a tile pair, built for each of its two sizes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from fvcore.transforms.transform import BlendTransform, HFlipTransform, Transform, TransformList, VFlipTransform


class TransposeTransform(Transform):
    """Mirror at the main diagonal: with the two flips, all eight symmetries of the square."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.swapaxes(img, 0, 1)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords[:, ::-1]


class ZoomTransform(Transform):
    """A window of the image, enlarged or reduced to the size of the image; white where it reaches beyond it.

    ``x``, ``y``: the window's first corner in pixels; ``side``: its sides as a share of the image's.
    """

    def __init__(self, x: float, y: float, side: float) -> None:
        super().__init__()
        self.x, self.y, self.side = x, y, side

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        # Pixel i covers i to i + 1, and OpenCV counts from the middle of the first.
        shift = 0.5 * self.side - 0.5
        matrix = np.array([(self.side, 0, self.x + shift), (0, self.side, self.y + shift)])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(img, matrix, img.shape[1::-1], flags=flags, borderValue=(255, 255, 255))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return (coords - (self.x, self.y)) / self.side


@dataclass(frozen=True)
class Augmentation:
    """The draw: geometry (flips, transposition, a window) and colour (factors around 1).

    window: left, top and side as shares of the image's sides, so that it is one place at both sizes; a side above 1
    makes everything smaller.
    """

    flip_x: bool
    flip_y: bool
    transpose: bool
    window: tuple[float, float, float]
    brightness: float
    contrast: float
    saturation: float

    @classmethod
    def draw(cls, rng: np.random.Generator, color_jitter: float, zoom: float = 0.0) -> Augmentation:
        """``zoom``: objects become up to so much larger or smaller, such as 0.25."""
        flips = rng.random(3) < 0.5
        factors = rng.uniform(1 - color_jitter, 1 + color_jitter, 3)
        window = (0.0, 0.0, 1.0)
        if zoom:
            side = (1 + zoom) ** rng.uniform(-1, 1)
            left, top = rng.uniform(0, 1, 2) * (1 - side)
            window = (float(left), float(top), float(side))
        flip_x, flip_y, transpose = (bool(flip) for flip in flips)
        brightness, contrast, saturation = (float(factor) for factor in factors)
        return cls(flip_x, flip_y, transpose, window, brightness, contrast, saturation)

    def build(self, image: np.ndarray) -> TransformList:
        """The transforms for an RGB uint8 image (h, w, 3) of either magnification."""
        height, width = image.shape[:2]
        left, top, side = self.window
        transforms: list[Transform] = []
        if self.flip_x:
            transforms.append(HFlipTransform(width))
        if self.flip_y:
            transforms.append(VFlipTransform(height))
        if self.transpose:
            transforms.append(TransposeTransform())
        if side != 1.0:
            transforms.append(ZoomTransform(left * width, top * height, side))
        # Colour after geometry on one image: grey must have been moved like the image it blends with.
        gray = TransformList(list(transforms)).apply_image(image) @ np.array([0.299, 0.587, 0.114])
        gray = gray[..., None]
        transforms += [
            BlendTransform(gray, 1 - self.saturation, self.saturation),
            BlendTransform(gray.mean(), 1 - self.contrast, self.contrast),
            BlendTransform(0, 1 - self.brightness, self.brightness),
        ]
        return TransformList(transforms)
