"""Two detectors on the same tiles of a slide."""

from __future__ import annotations

import numpy as np

from mhkd.deploy.detector import Detector, detect
from mhkd.deploy.parity import Parity, compare
from mhkd.inference.predictor import SlidePredictor
from preprocess.base.geometry import Region, Size
from preprocess.slides.slide import Slide

_SIZES = ((1.0, 1.0), (0.5, 0.75), (0.75, 0.5))
"""Width and height of the images that are compared, as shares of a tile."""


def tile_parity(reference: SlidePredictor, other: Detector, slide: Slide, num_tiles: int) -> Parity:
    """How ``other`` differs from the detector of ``reference`` on tiles of ``slide``, of three sizes in turn.

    Boxes are compared in the detector's pixels.

    Args:
        num_tiles: at most; they are spread over the tissue.
    """
    tiles = reference.plan(slide).tiles
    pairs = []
    for turn, index in enumerate(np.linspace(0, len(tiles) - 1, min(num_tiles, len(tiles))).round().astype(int)):
        size = Size(*(round(reference.tile_px * share) for share in _SIZES[turn % len(_SIZES)]))
        place = Region(tiles[index].x, tiles[index].y, *slide.wh_l0(size, reference.detector.input_mpp))
        images, frame = [slide.read(place, size)], [Region(0, 0, size.width, size.height)]
        pairs.append((detect(reference.detector, images, frame)[0], detect(other, images, frame)[0]))
    return compare(pairs)
