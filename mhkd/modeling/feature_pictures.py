"""Feature maps as pictures for TensorBoard."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIDE_PX, GAP_PX = 192, 4


def feature_picture(maps: dict[str, Tensor]) -> Tensor:
    """The first image's maps side by side, in the order given: uint8 (3, h, w).

    Each map (N, C, H, W) is its mean absolute activation over the channels, stretched from black (its smallest
    value) to white (its largest), because pyramids of different networks have scales of their own.
    """
    tiles = []
    for features in maps.values():
        heat = features[:1].detach().float().abs().mean(dim=1, keepdim=True)
        low, high = heat.amin(), heat.amax()
        heat = (heat - low) / (high - low).clamp(min=1e-12)
        scale = SIDE_PX / max(heat.shape[-2:])
        size = [max(1, round(side * scale)) for side in heat.shape[-2:]]
        tile = functional.interpolate(heat, size=size, mode="nearest")[0]
        tiles.append(functional.pad(tile, (0, GAP_PX, 0, SIDE_PX - size[0]), value=1.0))
    row = torch.cat(tiles, dim=2)[..., :-GAP_PX]
    return (row * 255).round().to(torch.uint8).expand(3, -1, -1).cpu()
