"""BFA, the Basic Feature Adaptive module: a small residual adapter on each pyramid level."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class BFA(nn.Module):
    """f' = f + conv1x1(ReLU(GN(conv3x3(ReLU(GN(conv1x1(f))))))), shape (N, C, H, W) kept.

    The paper names the module and draws where it stands; its inside is our choice. The last convolution
    starts at zero, so a freshly inserted BFA is the identity and phase 2 starts where phase 1 ended.
    """

    def __init__(self, channels: int, bottleneck: int = 128) -> None:
        super().__init__()
        groups = min(32, bottleneck)
        last = nn.Conv2d(bottleneck, channels, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))
        self.residual = nn.Sequential(
            nn.Conv2d(channels, bottleneck, 1, bias=False),
            nn.GroupNorm(groups, bottleneck),
            nn.ReLU(inplace=True),
            nn.Conv2d(bottleneck, bottleneck, 3, padding=1, bias=False),
            nn.GroupNorm(groups, bottleneck),
            nn.ReLU(inplace=True),
            last,
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.residual(features)


class PyramidBFA(nn.ModuleDict):
    """One BFA per pyramid level; the empty pyramid adapter passes features through."""

    def __init__(self, channels: dict[str, int], bottleneck: int = 128) -> None:
        super().__init__({level: BFA(count, bottleneck) for level, count in channels.items()})

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {level: self[level](f) if level in self else f for level, f in features.items()}
