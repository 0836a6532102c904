"""Which pyramid levels of student and teacher belong together, and the feature loss over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from mhkd.losses.build import build_feature_loss
from mhkd.losses.pyramid import PyramidLoss, build_adapter
from preprocess.errors import UserError


def level_shift(scale_ratio: int) -> int:
    """By how many levels the pyramids are shifted: log2 of ``scale_ratio``, s / u, which must be a power of two."""
    if scale_ratio < 1 or scale_ratio & (scale_ratio - 1):
        raise UserError(
            f"teacher and up-sampled student differ by a factor of {scale_ratio}",
            remedy="set MODEL.MHKD.UPSAMPLE to the scale factor of the tiles divided by a power of two",
        )
    return scale_ratio.bit_length() - 1


def pair_levels(
    wanted: list[str],
    student: Mapping[str, Any],
    teacher: Mapping[str, Any],
    scale_ratio: int,
    key: str = "MODEL.MHKD.FEATURE_LEVELS",
) -> dict[str, str]:
    """Student level -> teacher level of equal size, for the wanted levels that both pyramids have.

    ``student`` and ``teacher`` are the pyramids by level. Where the teacher's image is larger by a factor of two,
    student p2 belongs to teacher p3. ``key`` is where the wanted levels stand.
    """
    shift = level_shift(scale_ratio)
    shifted = {level: f"p{int(level[1:]) + shift}" for level in wanted}
    pairs = {s: t for s, t in shifted.items() if s in student and t in teacher}
    if not pairs:
        raise UserError(
            f"student and teacher share none of the levels {', '.join(wanted)}",
            remedy=f"change {key} or MODEL.MHKD.UPSAMPLE",
        )
    return pairs


def build_pyramid_loss(
    settings: CfgNode, student: Mapping[str, Any], teacher: Mapping[str, Any], scale_ratio: int
) -> PyramidLoss:
    """The feature loss of MODEL.MHKD (``settings``) for pyramids given by level as Detectron2's ShapeSpec."""
    wanted, factors = list(settings.FEATURE_LEVELS), list(settings.FEATURE_LEVEL_WEIGHTS)
    if factors and len(factors) != len(wanted):
        raise UserError(
            f"MODEL.MHKD.FEATURE_LEVEL_WEIGHTS has {len(factors)} entries for {len(wanted)} FEATURE_LEVELS",
            remedy="give one weight a level, or none",
        )
    weights = dict(zip(wanted, factors or [1.0] * len(wanted), strict=True))
    pairs = pair_levels([level for level in wanted if weights[level]], student, teacher, scale_ratio)
    return PyramidLoss(
        pairs,
        strides={s: student[s].stride for s in pairs},
        adapters={s: build_adapter(student[s].channels, teacher[t].channels) for s, t in pairs.items()},
        losses={
            s: build_feature_loss(
                settings.FEATURE_LOSS,
                teacher[t].channels,
                foreground_only=settings.FEATURE_FOREGROUND,
                cwd_temperature=settings.CWD_TEMPERATURE,
            )
            for s, t in pairs.items()
        },
        weights={s: float(weights[s]) for s in pairs},
    )
