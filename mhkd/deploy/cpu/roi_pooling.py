"""RoI pooling over a pyramid whose channels lie together, several times as fast on a CPU as Detectron2's.

Torchvision's RoIAlign gathers each channel by itself, level by level, from a copy with the channels apart, and scatters
the gradient likewise. Here a bin is a weighted sum of whole pixels of any level, which torch's ``embedding_bag`` adds
up, forwards and backwards. The sums are torchvision's but for the last digits of float32; RoIs get no gradient, as
there.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels, convert_boxes_to_pooler_format
from detectron2.structures import Boxes
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag


class ChannelsLastROIPooler(ROIPooler):
    """Features (N, C, H, W) of each level, boxes of each image in its pixels -> (R, C, height, width).

    Detectron2's and torchvision's own on a GPU, and where a graph is traced, which is to have the operations that other
    programs know. Boxes are taken as they are: Detectron2 rounds them to the features' precision, and bfloat16 has no
    whole number between 512 and 516.
    """

    def forward(self, x: list[Tensor], box_lists: list[Boxes]) -> Tensor:
        precision = x[0].dtype
        if not x[0].is_cpu or torch.jit.is_tracing() or not sum(len(boxes) for boxes in box_lists):
            return super().forward([features.float() for features in x], box_lists).to(precision)
        rois = convert_boxes_to_pooler_format(box_lists).float()
        level = assign_boxes_to_levels(
            box_lists, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        rows, columns = self.output_size
        images, channels = x[0].shape[:2]
        pixels = torch.cat([features.permute(0, 2, 3, 1).reshape(-1, channels) for features in x]).float()
        sides = torch.tensor([features.shape[:1:-1] for features in x], dtype=torch.int32)  # width and height
        areas = sides.prod(dim=1)
        begin = (images * areas).cumsum(dim=0) - images * areas  # of each level in pixels
        width, first = sides[level, 0], (begin[level] + rois[:, 0].long() * areas[level]).int()
        pixel, weight, span = _taps(*self._samples(rois[:, 1:], level), max(rows, columns), sides[level])

        order, indices, shares, lengths = [], [], [], []
        for count in span.unique().tolist():  # RoIs of about one size together
            alike = torch.nonzero(span == count).squeeze(1)
            at, share = pixel[alike, :, :, :count], weight[alike, :, :, :count]
            row = first[alike, None, None] + at[:, 1, :rows] * width[alike, None, None]
            # Both sides spelled out over a bin's pixels: sums over so short axes are slow.
            index = _each(row, count)[:, :, None] + at[:, 0, :columns].repeat(1, 1, count)[:, None]
            part = _each(share[:, 1, :rows], count)[:, :, None] * share[:, 0, :columns].repeat(1, 1, count)[:, None]
            order.append(alike)
            indices.append(index.flatten())
            shares.append(part.flatten())
            lengths.append(torch.full_like(alike, count * count, dtype=torch.int32))
        taps = (torch.cat(parts) for parts in (indices, shares, lengths, order))
        sums = _WeightedSums.apply(pixels, *taps, rows * columns, precision)
        return sums.view(-1, channels, rows, columns)

    def _samples(self, boxes: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(R, 2) each, along x and y: where RoIs begin, how long a bin is, and how many samples a bin has."""
        align, (rows, columns) = self.level_poolers[0], self.output_size
        scale = torch.tensor([pooler.spatial_scale for pooler in self.level_poolers])[level, None]
        boxes = boxes * scale - (0.5 if align.aligned else 0.0)
        start, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        size = size if align.aligned else size.clamp(min=1.0)
        step = size / torch.tensor([columns, rows])
        samples = torch.full_like(step, align.sampling_ratio) if align.sampling_ratio > 0 else step.ceil()
        return start, step, samples


class _WeightedSums(torch.autograd.Function):
    """Weighted sums of ``pixels`` (M, C), ``bins`` of them for each of the R RoIs -> (R, C, bins) in ``precision``.

    ``index`` and ``weight`` name the pixels of each sum and their weights, bin after bin and RoI after RoI;
    ``lengths`` (R,) is how many pixels each bin of a RoI has, and ``rois`` (R,) the places of the RoIs in the result.
    As ``embedding_bag``, whose own backward pass takes three times as long as this one, which adds up the same way.
    """

    @staticmethod
    def forward(
        ctx: Any,
        pixels: Tensor,
        index: Tensor,
        weight: Tensor,
        lengths: Tensor,
        rois: Tensor,
        bins: int,
        precision: torch.dtype,
    ) -> Tensor:
        lengths = lengths.repeat_interleave(bins)
        ctx.save_for_backward(index, weight, lengths, rois)
        ctx.pixels, ctx.bins = len(pixels), bins
        begin = lengths.cumsum(0, dtype=torch.int32) - lengths
        sums = embedding_bag(index, pixels, begin, mode="sum", per_sample_weights=weight)
        found = sums.new_empty(len(rois), sums.shape[1], bins, dtype=precision)
        found[rois] = sums.to(precision).view(len(rois), bins, -1).transpose(1, 2)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        index, weight, lengths, rois = ctx.saved_tensors
        number = (rois[:, None] * ctx.bins + torch.arange(ctx.bins)).int().flatten().repeat_interleave(lengths)
        order = index.argsort(stable=True)
        counts = index.bincount(minlength=ctx.pixels)
        begin = (counts.cumsum(0) - counts).int()
        gradient = gradient.transpose(1, 2).flatten(0, 1).float()
        found = embedding_bag(number[order], gradient, begin, mode="sum", per_sample_weights=weight[order])
        return found, *(None,) * 6


def _taps(start: Tensor, step: Tensor, samples: Tensor, bins: int, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels along x and y that each bin of each RoI is made of, their weights, and how many of them a RoI needs.

    A sample is shared by the two pixels around it; those of neighbouring samples are mostly the same, so each pixel is
    taken once, with what all samples give it.

    Args:
        start: (R, 2) where RoIs begin, along x and y, in pixels of their level.
        step: (R, 2) how long a bin is.
        samples: (R, 2) how many samples a bin has.
        bins: how many bins there are along the longer side.
        length: (R, 2) how many pixels the level has.

    Returns:
        Pixels and weights (R, 2, bins, P), P as many as the longest bin needs, and (R,) how many pixels a RoI's
        longest bin needs.
    """
    # RoIs along the last axis: the others are short, and operations on short rows slow.
    start, step, samples, length = (values.t().contiguous()[:, None, None] for values in (start, step, samples, length))
    number = torch.arange(max(1, int(samples.amax())))[:, None]
    is_sample = number < samples
    at = start + step * (torch.arange(bins)[:, None, None] + (number + 0.5) / samples.clamp(min=1.0))
    counts = is_sample & (at >= -1.0) & (at <= length)
    at = at.clamp(min=0.0).minimum(length - 1)
    first, last = at[:, :, :1].floor(), (at * is_sample).amax(dim=2, keepdim=True).floor()
    span = (last - first).amax(dim=(0, 1, 2)).long().clamp(min=0) + 2
    pixel = first + torch.arange(int(span.amax()))[:, None]
    share = (1.0 - (at[:, :, None] - pixel[:, :, :, None]).abs()).clamp(min=0.0)
    weight = (share * counts[:, :, None]).sum(dim=3) / samples.clamp(min=1.0)
    pixel = pixel.int().minimum(length - 1)
    return pixel.permute(3, 0, 1, 2).contiguous(), weight.permute(3, 0, 1, 2).contiguous(), span


def _each(values: Tensor, times: int) -> Tensor:
    """(..., P) -> (..., P * times), each value so often in a row."""
    return values[..., None].expand(*values.shape, times).flatten(-2)


def pool_channels_last(model: nn.Module) -> None:
    """Put every RoI pooling of Detectron2 in ``model`` that is by RoIAlign into this form, in place."""
    for path, module in list(model.named_modules()):
        if type(module) is ROIPooler and type(module.level_poolers[0]) is ROIAlign:
            align = module.level_poolers[0]
            pooler = ChannelsLastROIPooler(
                module.output_size,
                [level.spatial_scale for level in module.level_poolers],
                align.sampling_ratio,
                "ROIAlignV2" if align.aligned else "ROIAlign",
                module.canonical_box_size,
                module.canonical_level,
            )
            model.set_submodule(path, pooler)
