"""What a configuration becomes before a run: fitted to its tiles, with no key set that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.config import CfgNode

from mhkd.config import mhkd_cfg
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest

UNREAD_KEYS = {
    "DATASETS.TRAIN": "DATASETS.TILES (--tiles)",
    "DATASETS.TEST": "DATASETS.TILES (--tiles)",
    "DATASETS.PROPOSAL_FILES_TRAIN": "",
    "DATASETS.PROPOSAL_FILES_TEST": "",
    "DATALOADER.ASPECT_RATIO_GROUPING": "",
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": "the option --empty-ratio of mhkd tiles",
    "DATALOADER.REPEAT_SQRT": "",
    "DATALOADER.REPEAT_THRESHOLD": "",
    "DATALOADER.SAMPLER_TRAIN": "",
    "GLOBAL.HACK": "",
    "INPUT.CROP": "INPUT.ZOOM_JITTER",
    "INPUT.FORMAT": "",
    "INPUT.MASK_FORMAT": "",
    "INPUT.MAX_SIZE_TEST": "the option --tile-px of mhkd tiles",
    "INPUT.MAX_SIZE_TRAIN": "the option --tile-px of mhkd tiles",
    "INPUT.MIN_SIZE_TEST": "the option --tile-px of mhkd tiles",
    "INPUT.MIN_SIZE_TRAIN": "the option --tile-px of mhkd tiles",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "",
    "INPUT.RANDOM_FLIP": "",
    "MODEL.KEYPOINT_ON": "",
    "MODEL.LOAD_PROPOSALS": "",
    "MODEL.MASK_ON": "",
    "SOLVER.AMP.ENABLED": "MODEL.MHKD.PRECISION",
    "SOLVER.REFERENCE_WORLD_SIZE": "",
    "SOLVER.STEPS": "SOLVER.DECAY_AT",
    "SOLVER.WARMUP_ITERS": "SOLVER.WARMUP_SHARE",
    "TEST.AUG": "",
    "TEST.EXPECTED_RESULTS": "",
    "TEST.KEYPOINT_OKS_SIGMAS": "",
    "TEST.PRECISE_BN": "",
}
"""Keys of Detectron2 that training does not read, each with what is there in its place; a group stands for its keys."""


def fit_to_data(cfg: CfgNode, manifest: Manifest) -> CfgNode:
    """``cfg`` with the classes and the scale factor of ``manifest``, and Detectron2's keys of the schedule.

    Raises:
        UserError: a key is set that nothing reads, a scale factor that is not that of the tiles, or a choice that does
            not exist.
    """
    check_unread_keys(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(manifest.labels)
    cfg.MODEL.RETINANET.NUM_CLASSES = cfg.MODEL.FCOS.NUM_CLASSES = len(manifest.labels)
    if cfg.MODEL.META_ARCHITECTURE == "MHKD":
        cfg.MODEL.MHKD.SCALE_FACTOR = _scale_factor(cfg, manifest)
        cfg.MODEL.MHKD.TEACHER.INPUT_MPP = manifest.teacher_mpp
        cfg.MODEL.MHKD.TEACHER.CLASS_NAMES = list(manifest.labels)
    if cfg.MODEL.MHKD.SELECT not in {"last", "best"}:
        raise UserError(f"MODEL.MHKD.SELECT is {cfg.MODEL.MHKD.SELECT!r}", remedy='use "last" or "best"')
    if cfg.MODEL.MHKD.SELECT == "best" and not cfg.TEST.EVAL_PERIOD:
        raise UserError("MODEL.MHKD.SELECT is best, and nothing is scored", remedy="set TEST.EVAL_PERIOD")
    if cfg.SEED < 0:
        raise UserError("SEED is negative", remedy="give a seed of 0 or more, so that the run can be repeated")
    iterations = cfg.SOLVER.MAX_ITER
    decays = {round(share * iterations) for share in cfg.SOLVER.DECAY_AT}
    cfg.SOLVER.STEPS = tuple(sorted(decays & set(range(1, iterations))))
    cfg.SOLVER.WARMUP_ITERS = min(iterations, round(cfg.SOLVER.WARMUP_SHARE * iterations))
    cfg.freeze()
    return cfg


def check_unread_keys(cfg: CfgNode) -> None:
    """Refuse a key of Detectron2 that differs from its default and that nothing here reads.

    Raises:
        UserError: such a key, with what to set in its place.
    """
    given, default = dict(leaves(cfg)), dict(leaves(mhkd_cfg()))
    for key, value in given.items():
        unread = next((name for name in UNREAD_KEYS if key == name or key.startswith(f"{name}.")), None)
        if unread and value != default[key]:
            instead = UNREAD_KEYS[unread]
            raise UserError(
                f"{key} is {value!r}, and nothing reads it",
                remedy=f"leave it out{f'; in its place there is {instead}' if instead else ''}",
            )


def leaves(cfg: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The full names and values of the keys of a configuration."""
    for key, value in cfg.items():
        if isinstance(value, dict):  # so is a CfgNode
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _scale_factor(cfg: CfgNode, manifest: Manifest) -> int:
    """Teacher pixels per student pixel."""
    scale = manifest.student_mpp / manifest.teacher_mpp
    whole = round(scale)
    if abs(scale - whole) > 1e-6:
        raise UserError(
            f"the tiles' um/px differ by a factor of {scale:g}, which is no whole number",
            path=manifest.root,
            remedy="cut tiles of which one um/px is a multiple of the other",
        )
    if cfg.MODEL.MHKD.SCALE_FACTOR not in {0, whole}:
        raise UserError(
            f"MODEL.MHKD.SCALE_FACTOR is {cfg.MODEL.MHKD.SCALE_FACTOR}, and that of the tiles {scale:g}",
            path=manifest.root,
            remedy="leave it out, or train on other tiles",
        )
    return whole
