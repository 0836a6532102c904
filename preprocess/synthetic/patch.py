"""A small canvas at full resolution for one structure, with the distances that its painter thinks in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from preprocess.synthetic.fields import distance_px, fill_outline, jittered_points, lookup, point_cells, smooth_noise
from preprocess.synthetic.nuclei import Nuclei

_MARGIN_UM = 6.0


@dataclass(frozen=True)
class Patch:
    """The surroundings of one closed outline. Positions are um from the patch's upper left corner."""

    outline: np.ndarray
    origin_px: tuple[int, int]
    """Upper left corner (x, y) on level 0."""
    shape: tuple[int, int]
    px_per_um: float
    rng: np.random.Generator

    @classmethod
    def around(cls, outline_um: np.ndarray, px_per_um: float, seed: int) -> Patch:
        """A patch that holds ``outline_um`` (n, 2; slide frame), with random numbers of its own."""
        low = np.floor((outline_um.min(axis=0) - _MARGIN_UM) * px_per_um).astype(int)
        high = np.ceil((outline_um.max(axis=0) + _MARGIN_UM) * px_per_um).astype(int)
        shape = (int(high[1] - low[1]), int(high[0] - low[0]))
        origin = (int(low[0]), int(low[1]))
        return cls(outline_um - low / px_per_um, origin, shape, px_per_um, np.random.default_rng(seed))

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height."""
        return self.shape[1] / self.px_per_um, self.shape[0] / self.px_per_um

    @cached_property
    def mask(self) -> np.ndarray:
        """bool: inside the outline."""
        return fill_outline(self.shape, self.outline * self.px_per_um)

    @cached_property
    def depth_um(self) -> np.ndarray:
        """Distance from the outline inwards; 0 outside."""
        return distance_px(self.mask) / self.px_per_um

    @property
    def radius_um(self) -> float:
        """Greatest depth, about the radius of the largest circle inside."""
        return float(self.depth_um.max())

    @cached_property
    def direction(self) -> np.ndarray:
        """Angle of each pixel around the middle of the outline, in radians."""
        y, x = np.mgrid[: self.shape[0], : self.shape[1]] / self.px_per_um
        middle = self.outline.mean(axis=0)
        return np.arctan2(y - middle[1], x - middle[0]).astype(np.float32)

    def uneven_ring_um(self, width_um: tuple[float, float]) -> np.ndarray:
        """Local width of a ring of a mean width from ``width_um``: none in one direction, uneven elsewhere."""
        width = self.rng.uniform(*width_um) * min(1.0, self.radius_um / 70)
        around = 1 - np.cos(self.direction - self.rng.uniform(-np.pi, np.pi))
        return width * (0.25 + 0.75 * around) * (1 + 0.45 * self.noise(40))

    def noise(self, wavelength_um: float) -> np.ndarray:
        """Smooth noise of about unit deviation."""
        return smooth_noise(self.rng, self.shape, max(1.0, wavelength_um * self.px_per_um))

    def cells(self, spacing_um: float, warp_um: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Labels of random cells about ``spacing_um`` apart, and the depth in um inside each cell."""
        width, height = self.size_um
        reach = (width + 2 * spacing_um, height + 2 * spacing_um)
        points = jittered_points(self.rng, reach, spacing_um) - spacing_um
        labels, depth = point_cells(points * self.px_per_um, self.shape)
        if warp_um > 0:
            labels, depth = self._warped(labels, depth, warp_um)
        return labels, depth / self.px_per_um

    def _warped(self, labels: np.ndarray, depth: np.ndarray, warp_um: float) -> tuple[np.ndarray, np.ndarray]:
        y, x = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float32)
        shift = warp_um * self.px_per_um
        x, y = x + shift * self.noise(3 * warp_um), y + shift * self.noise(3 * warp_um)
        depth = cv2.remap(depth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        rows, columns = (np.clip(part.astype(int), 0, side - 1) for part, side in zip((y, x), self.shape, strict=True))
        return labels[rows, columns], depth

    def scatter(self, where: np.ndarray, spacing_um: float) -> np.ndarray:
        """Jittered positions (n, 2) in um, about ``spacing_um`` apart, on the set pixels of ``where``."""
        points = jittered_points(self.rng, self.size_um, spacing_um)
        return points[lookup(where, points * self.px_per_um)]

    def draw_nuclei(
        self,
        image: np.ndarray,
        centres: np.ndarray,
        radius_um: float,
        stretch: tuple[float, float],
        *,
        chromatin: float = 74.0,
        tangential: bool = False,
    ) -> None:
        """Draw nuclei of about ``radius_um``; ``tangential`` lays them along the outline."""
        count = len(centres)
        angle = None
        if tangential:
            angle = lookup(self.direction, centres * self.px_per_um) + np.pi / 2 + self.rng.normal(0, 0.25, count)
        radius = np.maximum(self.rng.normal(radius_um, 0.12 * radius_um, count), 0.9)
        nuclei = Nuclei.make(self.rng, centres, radius, self.rng.uniform(*stretch, count), angle, chromatin)
        nuclei.draw(image, self.px_per_um)
