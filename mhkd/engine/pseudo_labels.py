"""Which tiles a run trains on: those of annotated slides, and of others with what a detector found there."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.config import CfgNode

from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.tiles.manifest import Manifest
from preprocess.tiles.pseudo_labels import HEADER, PseudoLabels, add_pseudo_labels

logger = logging.getLogger(__name__)


def read_training_tiles(cfg: CfgNode) -> Manifest:
    """The manifest of DATASETS.TILES, with the labels of DATASETS.PSEUDO_LABELS where that names some.

    Raises:
        UserError: the labels do not fit the tiles, or were not made by the teacher of the run.
    """
    manifest = Manifest.read(cfg.DATASETS.TILES)
    num_unlabelled = manifest.tiles.loc[~manifest.tiles["labelled"], "slide"].nunique()
    if not num_unlabelled:
        return manifest
    if not cfg.DATASETS.PSEUDO_LABELS:
        logger.info("%d slides that nobody annotated are left out", num_unlabelled)
        return manifest
    if not 0 <= (share := cfg.DATALOADER.UNLABELLED_SHARE) <= 1:
        raise UserError(f"DATALOADER.UNLABELLED_SHARE is {share:g}", remedy="give 0 to 1, such as 0.5")
    labels = PseudoLabels.read(cfg.DATASETS.PSEUDO_LABELS)
    teacher = cfg.MODEL.MHKD.TEACHER.WEIGHTS
    if cfg.MODEL.META_ARCHITECTURE == "MHKD" and teacher and sha256_of(teacher) != labels.model_sha256:
        raise UserError(
            f"made by another detector than the teacher {teacher}",
            path=labels.root,
            remedy="make them again: mhkd pseudo-labels, or make pseudo-labels",
        )
    return add_pseudo_labels(manifest, labels, shuffled=cfg.DATASETS.SHUFFLE_PSEUDO_LABELS)


def describe_pseudo_labels(cfg: CfgNode) -> dict[str, Any]:
    """What the record of a run says of DATASETS.PSEUDO_LABELS: nothing where these are of no slide."""
    labels = PseudoLabels.read(cfg.DATASETS.PSEUDO_LABELS) if cfg.DATASETS.PSEUDO_LABELS else None
    if labels is None or not labels.slides:
        return {}
    stated = {key: value for key, value in labels.about.items() if key != "slides"}
    return {**stated, "num_slides": len(labels.slides), "sha256": sha256_of(labels.root / HEADER)}
