"""The dense head of RetinaNet and FCOS, level by level and location by location.

A location is one anchor of one cell of one level; FCOS has one anchor, a point, a cell. Shapes: N images, K classes, A
anchors a cell, H x W cells a level, R locations of all levels together, M locations that two detectors share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from torch import Tensor

from mhkd.losses.precision import full_precision

Maps = list[list[Tensor]]
"""Class logits (N, A K, H, W), box deltas (N, A 4, H, W) and, of FCOS, centerness (N, A, H, W): lists of levels."""


@dataclass(frozen=True)
class Cut:
    """The upper left ``height`` x ``width`` cells of level number ``level`` of a head."""

    level: int
    height: int
    width: int


def pyramid_of(detector: Any, features: dict[str, Tensor]) -> list[Tensor]:
    """The levels that the head reads, in its order."""
    return [features[level] for level in detector.head_in_features]


def predict_maps(detector: Any, features: dict[str, Tensor]) -> Maps:
    """What the head says about a pyramid, as float32."""
    return [[full_precision(level) for level in maps] for maps in detector.head(pyramid_of(detector, features))]


def columns_of(detector: Any, maps: Maps) -> list[int]:
    """Numbers for a location in each of ``maps``."""
    return [detector.num_classes, 4, 1][: len(maps)]


@dataclass(frozen=True)
class Predictions:
    """What a detector says at M locations: logits (M, K), deltas and anchors (M, 4), centerness (M,) where it has one.

    factors: (M, 4), pixels of this detector's input per pixel of the up-sampled student image.
    """

    logits: Tensor
    deltas: Tensor
    centerness: Tensor | None
    anchors: Tensor
    factors: Tensor

    @classmethod
    def at(cls, detector: Any, maps: Maps, cuts: Sequence[Cut], factors: Tensor) -> Predictions:
        """
        Args:
            factors: (N, 4), those of each image.
        """
        count, levels = len(factors), [cut.level for cut in cuts]
        anchors = detector.anchor_generator(maps[0])
        sizes = [maps[0][level].shape[-2:] for level in levels]
        flat = [
            _cut([permute_to_N_HWA_K(kind[level], width) for level in levels], sizes, cuts)
            for kind, width in zip(maps, columns_of(detector, maps), strict=True)
        ]
        return cls(
            logits=flat[0],
            deltas=flat[1],
            centerness=flat[2].squeeze(1) if len(flat) > 2 else None,
            anchors=_cut([anchors[level].tensor.expand(count, -1, -1) for level in levels], sizes, cuts),
            factors=_cut([factors[:, None].expand(-1, len(anchors[level]), -1) for level in levels], sizes, cuts),
        )

    def boxes(self, detector: Any, chosen: Tensor) -> Tensor:
        """Boxes of the locations ``chosen`` in the up-sampled student frame."""
        boxes = detector.box2box_transform.apply_deltas(self.deltas[chosen], self.anchors[chosen])
        return boxes / self.factors[chosen]


def told(values: Sequence[Tensor], maps: Maps, cuts: Sequence[Cut], anchors_a_cell: int) -> Tensor:
    """What was said about all R locations, a tensor (R,) or (R, 4) an image, at those of ``cuts``: (M,) or (M, 4)."""
    sizes = [level.shape[-2:] for level in maps[0]]
    levels = torch.stack(list(values)).split([h * w * anchors_a_cell for h, w in sizes], dim=1)
    return _cut([levels[cut.level] for cut in cuts], [sizes[cut.level] for cut in cuts], cuts)


def _cut(levels: Sequence[Tensor], sizes: Sequence[Sequence[int]], cuts: Sequence[Cut]) -> Tensor:
    """(N, H W A, ...) a level -> (M, ...): images one after another within a level, levels one after another."""
    parts = []
    for values, (height, width), cut in zip(levels, sizes, cuts, strict=True):
        grid = values.unflatten(1, (height, width, -1))
        parts.append(grid[:, : cut.height, : cut.width].flatten(0, 3))
    return torch.cat(parts)
