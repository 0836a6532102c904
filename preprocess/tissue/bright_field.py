"""Whether a picture is one of transmitted light, in which what is stained is darker than the empty glass."""

from __future__ import annotations

import cv2
import numpy as np

from preprocess.slides.readers.reader import Image

_SIDE_PX = 512
# Stains take light and give it colour: what is darker is more coloured. Where colour grows with brightness instead,
# the light comes from the tissue, or the picture is inverted. Of 281 pictures of kidneys the highest correlation is
# 0.32, of their inverses the median is 0.74, of fluorescence 0.99. All tissue, evenly lit, has a bright median.
_MAX_CORRELATION, _MAX_MEDIAN = 0.45, 0.9
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
    correlation = float(np.corrcoef(light[seen], chroma[seen])[0, 1])
    return not (correlation > _MAX_CORRELATION and median < _MAX_MEDIAN)
