"""Tissue separated from glass, ink, dust, dark borders and blank fill on a thumbnail.

One idea carries it: tissue absorbs light, unevenly. The glass is found first (bright, grey, smooth), absorption is
measured against it, so pale and faded tissue counts as long as it differs from *this* slide's glass. What absorbs but
is smooth is not tissue: marker ink of the usual colours, and anything grey (black marker, borders, shadows, fill).
Smoothness is what tells blue ink from the blue of a Masson stain, and black fill from silver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.slides.readers.reader import Image

Mask = NDArray[np.bool_]
Values = NDArray[np.float32]

_MEDIAN_PX = 5
_TEXTURE_PX = 2.0
_CLOSE_UM, _OPEN_UM = 64.0, 40.0
_HOLE_UM2, _PIECE_UM2, _GREY_PIECE_UM2 = 150_000.0, 15_000.0, 60_000.0

# The glass: grey, bright, smooth. Pure white is what a viewer or a reader fills in, unless there is nothing else.
_GLASS_SATURATION, _GLASS_VALUE, _GLASS_TEXTURE = 45, 140, 2.5
_WHITE_FILL = 253
_MIN_GLASS = 0.02
_GLASS_WIDTH = 6

# Absorption (natural logarithm) of the most absorbed channel plus the spread of the channels.
_MIN_ABSORPTION, _GLASS_SIGMAS = 0.05, 5.0
# Below it tissue must have more texture than the glass: haze, glue and uneven light have not.
_WEAK_ABSORPTION, _WEAK_TEXTURE = 0.12, 1.5

_ALL_VALUES = np.arange(256, dtype=np.uint8)[None, :, None]
_BLACK_VALUE = 40
# Spread of the channels over their absorption: stains are coloured, ink and shadows are not.
_GREY_SPREAD = 0.22
_FLAT_TEXTURE = 4.0
_RIM_PX = 4
_PENS = (  # lowest and highest hue, saturation, value in OpenCV's 8-bit HSV: green, blue and red ink
    ((36, 90, 40), (95, 255, 255)),
    ((96, 110, 40), (126, 255, 255)),
    ((0, 200, 110), (8, 255, 255)),
    ((172, 200, 110), (180, 255, 255)),
)


@dataclass(frozen=True)
class _Glass:
    """Colour of the empty slide (RGB), and how far its own pixels scatter: absorption and texture."""

    rgb: Values
    absorption_sigma: float
    texture: float


def find_tissue(rgb: Image, mpp: float) -> Mask:
    """Tissue on a thumbnail (h, w, 3) of ``mpp`` um/px, as bool (h, w)."""
    smooth = cv2.medianBlur(rgb, _MEDIAN_PX).astype(np.uint8)
    hsv = cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV).astype(np.uint8)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    texture = _texture(grey)
    glass = _find_glass(smooth, hsv, texture)
    absorbed = cv2.LUT(smooth, np.log(glass.rgb / np.maximum(_ALL_VALUES, 1)).astype(np.float32))
    strongest = _over_channels(np.maximum, absorbed)
    spread = strongest - _over_channels(np.minimum, absorbed)
    absorption = strongest + spread
    tissue = absorption > max(_MIN_ABSORPTION, _GLASS_SIGMAS * glass.absorption_sigma)
    tissue &= ~_is_fill_or_ink(hsv, grey, spread < _GREY_SPREAD * strongest, absorption)
    closed = _close(tissue.astype(np.uint8), _disc(_CLOSE_UM / mpp))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, _disc(_OPEN_UM / mpp)).astype(np.uint8)
    filled = _fill_holes(opened, _HOLE_UM2 / mpp**2)
    return _keep_pieces(filled, mpp, strongest, spread, absorption, texture, glass)


def _over_channels(function: np.ufunc, image: NDArray[Any]) -> NDArray[Any]:
    """``function.reduce`` over the three channels of ``image`` (h, w, 3), several times as fast as NumPy's own."""
    return function(function(image[..., 0], image[..., 1]), image[..., 2])


def _texture(grey: Values, mask: Mask | None = None) -> Values:
    """Local standard deviation of the brightness (h, w) without its slow changes, in grey values.

    With a ``mask``, of its pixels alone: the edge of a stroke does not count as texture of its ink.
    """
    weight = np.ones_like(grey) if mask is None else mask.astype(np.float32)
    total = np.maximum(_blur(weight), np.float32(1e-6))
    detail = (grey - _blur(grey * weight) / total) * weight
    return np.sqrt(_blur(detail * detail) / total)


def _blur(values: Values) -> Values:
    return cv2.GaussianBlur(values, (0, 0), _TEXTURE_PX).astype(np.float32, copy=False)


def _find_glass(smooth: Image, hsv: Image, texture: Values) -> _Glass:
    """The commonest grey, bright and smooth colour; white where there is none, as on a crop that is all tissue."""
    saturation, value = hsv[..., 1], hsv[..., 2]
    blank = _over_channels(np.minimum, smooth) >= _WHITE_FILL
    candidates = (saturation < _GLASS_SATURATION) & (value >= _GLASS_VALUE) & (texture < _GLASS_TEXTURE) & ~blank
    scanned = max(1, int((~blank & (value > _BLACK_VALUE)).sum()))
    if candidates.sum() < _MIN_GLASS * scanned:
        return _Glass(np.full(3, 255, np.float32), 0.0, 0.0)
    counts = np.bincount(value[candidates], minlength=256).astype(np.float64)
    mode = int(np.convolve(counts, np.ones(5), mode="same").argmax())
    near = candidates & (np.abs(value.astype(np.int16) - mode) <= _GLASS_WIDTH)
    colours = smooth[near].astype(np.float32)
    colour = np.median(colours, axis=0)
    absorbed = np.log(colour / np.maximum(colours, 1)).max(axis=1)
    sigma = 1.4826 * float(np.median(np.abs(absorbed - np.median(absorbed))))
    return _Glass(colour.astype(np.float32), sigma, float(np.median(texture[near])))


def _is_fill_or_ink(hsv: Image, grey: Values, colourless: Mask, absorption: Values) -> Mask:
    """What is dark or strongly coloured but smooth."""
    inked = np.zeros(grey.shape, bool)
    for low, high in _PENS:
        inked |= cv2.inRange(hsv, np.array(low), np.array(high)) > 0
    dark = (colourless & (absorption > _WEAK_ABSORPTION)) | (hsv[..., 2] <= _BLACK_VALUE)
    found = _flat_parts(inked, grey) | _flat_parts(dark, grey)
    # Its rim is a mixture with what is beside it.
    return cv2.dilate(found.astype(np.uint8), _disc(5)) > 0


def _flat_parts(mask: Mask, grey: Values) -> Mask:
    """What of ``mask`` is smooth, with its rim; nothing that is thin."""
    closed = _close(mask.astype(np.uint8), _disc(3))
    inside = cv2.erode(closed, _disc(5), borderValue=1) > 0
    smooth = (inside & (_texture(grey, inside) < _FLAT_TEXTURE)).astype(np.uint8)
    smooth = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, _disc(3))
    return (cv2.dilate(smooth, _disc(2 * _RIM_PX + 1)) & closed) > 0


def _keep_pieces(
    tissue: NDArray[np.uint8],
    mpp: float,
    strongest: Values,
    spread: Values,
    absorption: Values,
    texture: Values,
    glass: _Glass,
) -> Mask:
    """Without dust (small, or grey and not large) and without haze (weak and as smooth as the glass)."""
    count, labels = cv2.connectedComponents(tissue, connectivity=8)
    inside = labels > 0
    piece = labels[inside]
    pixels = np.maximum(np.bincount(piece, minlength=count), 1)

    def mean(values: Values) -> NDArray[np.float64]:
        return np.bincount(piece, weights=values[inside], minlength=count) / pixels

    area_um2 = pixels * mpp**2
    grey = mean(spread) < _GREY_SPREAD * mean(strongest)
    weak = mean(absorption) < _WEAK_ABSORPTION
    keep = area_um2 >= np.where(grey, _GREY_PIECE_UM2, _PIECE_UM2)
    # What the border cuts may be the edge of something larger.
    keep[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = True
    keep &= ~weak | (mean(texture) > _WEAK_TEXTURE * glass.texture)
    keep[0] = False
    return keep[labels]


def _close(mask: NDArray[np.uint8], kernel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Close gaps, but not the one between tissue and the border of the slide, as OpenCV alone would."""
    pad = kernel.shape[0]
    padded = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    return cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[pad:-pad, pad:-pad].astype(np.uint8)


def _disc(diameter_px: float) -> NDArray[np.uint8]:
    side = max(1, 2 * round((diameter_px - 1) / 2) + 1)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)


def _fill_holes(mask: NDArray[np.uint8], max_area_px: float) -> NDArray[np.uint8]:
    """Fill holes up to ``max_area_px`` pixels: lumina of tubules and vessels belong to the tissue."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= max_area_px
    small[0] = False
    height, width = mask.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    enclosed = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    return np.where((small & enclosed)[labels], 1, mask).astype(np.uint8) if count > 1 else mask
