"""What a student starts from, as data: MODEL.MHKD.INIT."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode

from preprocess.base.errors import UserError

CHOICES = ("weights", "teacher", "imagenet", "none")


def resolve_init(cfg: CfgNode) -> CfgNode:
    """``cfg`` with the MODEL.WEIGHTS and MODEL.TIMM.PRETRAINED that its MODEL.MHKD.INIT stands for.

    "weights": what MODEL.WEIGHTS names (a previous step). "teacher": the teacher's weights. "imagenet": a backbone,
    from the model zoo (MODEL.WEIGHTS) or from timm (MODEL.TIMM.PRETRAINED). "none": nothing at all.

    Raises:
        UserError: an unknown choice, or one that contradicts MODEL.WEIGHTS.
    """
    settings, choice = cfg.MODEL.MHKD, cfg.MODEL.MHKD.INIT
    if choice not in CHOICES:
        raise UserError(f"MODEL.MHKD.INIT is {choice!r}", remedy=f"use one of {', '.join(CHOICES)}")
    given = cfg.MODEL.WEIGHTS
    cfg = cfg.clone()
    cfg.defrost()
    if choice == "weights":
        return cfg
    if given and not is_backbone_file(given) and not (choice == "teacher" and _same(given, settings.TEACHER.WEIGHTS)):
        raise UserError(
            f"MODEL.MHKD.INIT {choice} contradicts the weights to start from",
            path=given,
            remedy='leave out --init (MODEL.WEIGHTS), or set MODEL.MHKD.INIT to "weights"',
        )
    if choice == "teacher":
        if not settings.TEACHER.WEIGHTS:
            raise UserError("MODEL.MHKD.INIT is teacher, and there is none", remedy="name one with --teacher")
        cfg.MODEL.WEIGHTS = settings.TEACHER.WEIGHTS
    elif choice == "imagenet":
        if not given and cfg.MODEL.TIMM.PRETRAINED == "none":
            raise UserError(
                "MODEL.MHKD.INIT is imagenet, and no such weights are named",
                remedy="set MODEL.WEIGHTS to a model-zoo backbone or MODEL.TIMM.PRETRAINED to packaged or timm",
            )
    else:
        cfg.MODEL.WEIGHTS, cfg.MODEL.TIMM.PRETRAINED = "", "none"
    return cfg


def is_backbone_file(path: str) -> bool:
    """Whether ``path`` names a model-zoo backbone rather than a whole detector."""
    return path.startswith("detectron2://") or Path(path).suffix == ".pkl"


def _same(first: str, second: str) -> bool:
    return bool(second) and Path(first).resolve() == Path(second).resolve()
