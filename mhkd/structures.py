"""Detections of one slide in the one frame that everything shares: level-0 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SlideDetections:
    """N scored boxes of one slide.

    boxes_l0: (N, 4) float64, xyxy in level-0 pixels. scores: (N,) float64 in [0, 1].
    labels: (N,) int64, indices into ``class_names``. Raises ValueError where the shapes disagree, a
    number is not finite, a box is inside out or a label has no name.
    """

    boxes_l0: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes_l0, dtype=np.float64).reshape(-1, 4)
        scores = np.asarray(self.scores, dtype=np.float64).reshape(-1)
        labels = np.asarray(self.labels, dtype=np.int64).reshape(-1)
        if not len(boxes) == len(scores) == len(labels):
            raise ValueError(f"{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels do not go together")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError("boxes and scores must be finite numbers")
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise ValueError("a box ends before it begins: boxes are x0, y0, x1, y1")
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.class_names)):
            raise ValueError(f"labels must be between 0 and {len(self.class_names) - 1}")
        for name, value in (("boxes_l0", boxes), ("scores", scores), ("labels", labels)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "class_names", tuple(self.class_names))

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> SlideDetections:
        """No detections, of these classes."""
        return cls(np.empty((0, 4)), np.empty(0), np.empty(0), tuple(class_names))

    @classmethod
    def concat(cls, parts: Sequence[SlideDetections]) -> SlideDetections:
        """All detections of ``parts`` (at least one), in their order; ValueError if the class names differ."""
        if not parts:
            raise ValueError("nothing to concatenate")
        if len({part.class_names for part in parts}) > 1:
            raise ValueError("detections of models with different classes do not go together")
        return cls(
            np.concatenate([part.boxes_l0 for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
            parts[0].class_names,
        )

    def select(self, which: np.ndarray) -> SlideDetections:
        """The detections that ``which``, (N,) bool or (M,) int indices, names; indices keep their order."""
        return SlideDetections(self.boxes_l0[which], self.scores[which], self.labels[which], self.class_names)

    def sort(self) -> SlideDetections:
        """Best first: by score descending, then y and x of the top left corner, then what is left to tell two apart."""
        x0, y0, x1, y1 = self.boxes_l0.T
        return self.select(np.lexsort((self.labels, x1, y1, x0, y0, -self.scores)))
