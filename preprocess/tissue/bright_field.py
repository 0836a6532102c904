"""Whether a picture is one of transmitted light, in which what is stained is darker than the empty glass."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.slides.readers.reader import Image

_SIDE_PX = 512
# Stains take light and give it colour: what is darker is more coloured. Where colour grows with brightness instead,
# the light comes from the tissue, or the picture is inverted. Of 281 pictures of kidneys the highest correlation is
# 0.32, of their inverses the median is 0.74, of fluorescence 0.99. All tissue, evenly lit, has a bright median.
_MAX_CORRELATION, _MAX_MEDIAN = 0.45, 0.9
# Coloured light does the same, but not against the colour of the lightest parts (-0.14 at most, of the same pictures in
# yellow and blue light); a channel that has less of it than the second number has a signal of its own. What is mostly
# green is the inverse of red and purple stains.
_MAX_AGAINST_LIGHT, _LEAST_OF_LIGHT = -0.1, 0.3
# Without colour: the median brightness, over that of the lightest hundredth and as it is. Of the darkest stains they
# are 0.29 and 49.
_MIN_GREY_MEDIAN, _MIN_GREY, _GREY_CHROMA = 0.2, 25.0, 1.0
_BLACK = 3.0


def is_bright_field(thumbnail: Image) -> bool:
    """Whether the thumbnail (h, w, 3) of a slide can be bright field; fluorescence and inverted pictures are not."""
    scale = min(1.0, _SIDE_PX / max(thumbnail.shape))
    small = cv2.resize(thumbnail, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float32)
    light, chroma = small.mean(axis=2), small.max(axis=2) - small.min(axis=2)
    middle, lightest = np.percentile(light, [50, 99])
    median = float(middle / max(lightest, 1.0))
    if chroma.std() < _GREY_CHROMA:
        return bool(median >= _MIN_GREY_MEDIAN and middle >= _MIN_GREY)
    # Black may be filled in beside the tissue; a signal of one colour on nothing else is none but for it.
    lit = light > _BLACK
    seen = lit if chroma[lit].std() >= _GREY_CHROMA else np.ones_like(lit)
    if median >= _MAX_MEDIAN or _correlation(light[seen], small[seen]) <= _MAX_CORRELATION:
        return True
    white = np.percentile(small, 99, axis=(0, 1))
    white = np.maximum(white / max(white.max(), 1.0), _LEAST_OF_LIGHT)
    is_green = small.mean(axis=(0, 1)).argmax() == 1
    if is_green or middle < _MIN_GREY:
        return False
    return _correlation(light[seen], small[seen] / white) <= _MAX_AGAINST_LIGHT


def _correlation(light: NDArray[np.float32], colours: NDArray[np.float32]) -> float:
    """How chroma grows with ``light`` (n,) over the ``colours`` (n, 3) of pixels, -1 to 1; 1 where there is none."""
    chroma = colours.max(axis=1) - colours.min(axis=1)
    return float(np.corrcoef(light, chroma)[0, 1]) if chroma.std() > 0 and light.std() > 0 else 1.0
