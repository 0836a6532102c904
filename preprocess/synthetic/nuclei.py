"""Nuclei: small dark ellipses drawn at full resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_CIRCLE = np.stack([np.cos(np.arange(10) * np.pi / 5), np.sin(np.arange(10) * np.pi / 5)], axis=1)
_SHIFT = 3


@dataclass(frozen=True)
class Nuclei:
    """Outlines (n, 10, 2) in um and the amount of chromatin (n,) of each."""

    outlines: np.ndarray
    chromatin: np.ndarray

    @classmethod
    def make(
        cls,
        rng: np.random.Generator,
        centres: np.ndarray,
        radius: np.ndarray,
        stretch: np.ndarray,
        angle: np.ndarray | None = None,
        chromatin: float = 74.0,
    ) -> Nuclei:
        """Ellipses at ``centres`` (n, 2): equal-area ``radius`` and ``stretch`` (short over long axis) of each."""
        count = len(centres)
        if angle is None:
            angle = rng.uniform(0, np.pi, count)
        long, short = radius / np.sqrt(stretch), radius * np.sqrt(stretch)
        ring = _CIRCLE * np.stack([long, short], axis=1)[:, None]
        ring = ring * (1 + rng.normal(0, 0.06, (count, len(_CIRCLE), 1)))
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        turned = np.stack([ring[..., 0] * cos - ring[..., 1] * sin, ring[..., 0] * sin + ring[..., 1] * cos], axis=-1)
        amount = np.clip(rng.normal(chromatin, 11, count), 30, 130)
        return cls(np.asarray(centres)[:, None] + turned, amount)

    def draw(self, image: np.ndarray, px_per_um: float) -> None:
        """Draw onto an image of materials (chromatin, cytoplasm, matrix), replacing what lies below."""
        points = np.round((self.outlines * px_per_um - 0.5) * (1 << _SHIFT)).astype(np.int32)
        for outline, amount in zip(points, self.chromatin.tolist(), strict=True):
            cv2.fillConvexPoly(image, outline, (amount, 22, 12), cv2.LINE_AA, _SHIFT)
