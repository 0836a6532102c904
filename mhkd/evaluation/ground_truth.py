"""What should have been found: true boxes, in level-0 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preprocess.base.errors import UserError


@dataclass(frozen=True)
class GroundTruth:
    """M true boxes of one image (a slide, or a tile).

    boxes_l0: (M, 4) float64 xyxy, level-0 pixels. labels: (M,) int64. ignore: (M,) bool, objects that need not be
    found and that cost nothing when found, such as one that a tile's edge cuts to a sliver.
    """

    boxes_l0: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(
        cls, boxes_l0: object, names: Sequence[str], class_names: Sequence[str], ignore: Sequence[bool] | None = None
    ) -> GroundTruth:
        """From boxes, (M, 4) or empty, and their class names; UserError where the model does not know a name.

        Names that differ in case alone are one, unless the model tells such classes apart.
        """
        index = {name.casefold(): i for i, name in enumerate(class_names)}
        key = str.casefold if len(index) == len(class_names) else str
        index = {key(name): i for i, name in enumerate(class_names)}
        unknown = sorted({name for name in names if key(name) not in index})
        if unknown:
            known = ", ".join(map(repr, class_names))
            raise UserError(
                f"annotated as {', '.join(map(repr, unknown))}, but the model knows {known}",
                remedy="map them to what it was trained on: --class-map with lines like 'glom: Glomerulus'",
            )
        return cls(
            np.asarray(boxes_l0, dtype=np.float64).reshape(-1, 4),
            np.array([index[key(name)] for name in names], dtype=np.int64),
            np.zeros(len(names), dtype=bool) if ignore is None else np.asarray(ignore, dtype=bool),
        )
