"""Feature distillation over the levels of two pyramids that may differ in channels, stride and padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mhkd.losses.feature import FeatureLoss
from mhkd.losses.precision import full_precision
from preprocess.base.errors import UserError

MAX_PADDING_PX = 32
"""Detectron2 pads images to a multiple of the coarsest stride that a backbone has, 32 at most."""


def build_adapter(student_channels: int, teacher_channels: int) -> nn.Module:
    """1x1 convolution from the student's number of channels to the teacher's; nothing where they agree.

    It trains with the student and stays in the distiller.
    """
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1)


class PyramidLoss(nn.Module):
    """Weighted sum of one feature loss per pair of levels.

    Student level P(k) is compared with the teacher level that ``pairs`` names; the two cover the same region with the
    same number of cells, up to the padding of their inputs, which is cut off. Other pyramids are an error. Where the
    teacher's cells are finer, those that one cell of the student covers become its channels (space to depth), so that
    the student learns what is where within a cell.
    """

    def __init__(
        self,
        pairs: dict[str, str],
        strides: dict[str, int],
        adapters: dict[str, nn.Module],
        losses: dict[str, FeatureLoss],
        weights: dict[str, float],
        finer: int = 0,
    ) -> None:
        """
        Args:
            pairs: student level -> teacher level; the other arguments have an entry for each student level.
            strides: of the student levels, in pixels of the student's up-sampled input.
            adapters: from the student's channels to the teacher's, times 4 for each level that it is finer by.
            finer: a cell of the student covers 2^finer x 2^finer cells of the teacher.
        """
        super().__init__()
        self.pairs = pairs
        self.strides = strides
        self.adapters = nn.ModuleDict(adapters)
        self.losses = nn.ModuleDict(losses)
        self.weights = weights
        self.finer = finer

    def forward(
        self,
        student: dict[str, Tensor],
        teacher: dict[str, Tensor],
        size_hw: tuple[int, int],
        boxes: Sequence[Tensor],
    ) -> Tensor:
        """
        Args:
            student, teacher: pyramids f_L or f_L', and f_H.
            size_hw: the largest image of the batch without padding, and
            boxes: (G, 4) an image, ground truth; both in pixels of the student's up-sampled input.
        """
        terms = []
        for level, teacher_level in self.pairs.items():
            stride = self.strides[level]
            gathered = functional.pixel_unshuffle(teacher[teacher_level], 2**self.finer)
            ours, theirs = same_extent(student[level], gathered, size_hw, stride)
            loss = self.losses[level](self.adapters[level](full_precision(ours)), theirs, [b / stride for b in boxes])
            terms.append(self.weights[level] * loss)
        return torch.stack(terms).sum()


def same_extent(student: Tensor, teacher: Tensor, size_hw: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """Both features cut to the cells that hold image: images padded to multiples of 32 px at two scales differ.

    Args:
        student, teacher: (N, C, H, W) of the same levels of the two pyramids.
        size_hw: the largest image of the batch, and
        stride: of ``student``, both in pixels of the student's up-sampled input.

    Raises:
        UserError: one has fewer cells than the image, or more than padding adds.
    """
    cells = [-(-size // stride) for size in size_hw]
    for whose, features in (("student", student), ("teacher", teacher)):
        extra = [(found - wanted) * stride for found, wanted in zip(features.shape[-2:], cells, strict=True)]
        if min(extra) < 0 or max(extra) >= MAX_PADDING_PX:
            raise UserError(
                f"the {whose}'s features have {' x '.join(map(str, features.shape[-2:]))} cells where an image of "
                f"{' x '.join(map(str, size_hw))} px has {' x '.join(map(str, cells))} of {stride} px",
                remedy="student and teacher must show one region: check the tiles, MODEL.MHKD.UPSAMPLE and the teacher",
            )
    height, width = cells
    return student[..., :height, :width], teacher[..., :height, :width]
