"""The score from which on a detection counts, chosen where the detector was not trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from mhkd.deploy.detector_file import Detector
from mhkd.engine.checkpoint import store_threshold
from mhkd.evaluation.matching import best_f1_thresh, match_all
from mhkd.evaluation.slide_level import VALIDATED
from mhkd.evaluation.tile_level import detect_in_tiles
from preprocess.base.errors import UserError
from preprocess.base.files import safe_name
from preprocess.tiles.manifest import Manifest


def best_thresh(model: nn.Module, cfg: CfgNode, manifest: Manifest, traits: dict[str, Any]) -> float | None:
    """The score threshold with the highest F1 (IoU 0.5, one to one) on the validation tiles.

    traits: input_mpp, tile_px and class_names. None where there are no validation tiles, or none of their objects is
    found. ``model`` is left in the mode, training or evaluation, that it was in.
    """
    if not (manifest.tiles["split"] == "val").any():
        return None
    was_training = model.training
    detector = Detector(model.eval(), cfg, **traits, provenance={}, path=Path(cfg.OUTPUT_DIR))
    truth, found = detect_in_tiles(
        detector, manifest, "val", batch_size=cfg.SOLVER.IMS_PER_BATCH, description="score threshold"
    )
    model.train(was_training)
    return best_f1_thresh(match_all(truth, found))


def store_thresholds(
    checkpoints: Mapping[str, Path], models: Mapping[str, Mapping[str, Any]], folder: str | Path
) -> list[Path]:
    """Write each model again, to ``<folder>/<name>.pth``, with the threshold that its evaluation found best on val.

    models: by name, what ``mhkd evaluate`` writes. Raises UserError where no threshold was chosen on validation
    slides, before anything is written.
    """
    for name in checkpoints:
        if (origin := models[name]["slides"]["score_thresh_origin"]) != VALIDATED:
            raise UserError(
                f"there is no threshold of {name} to store: it is {origin}",
                remedy="give annotated slides in the split val, score another split, and leave --score-thresh out",
            )
    written = []
    for name, source in checkpoints.items():
        target = Path(folder) / f"{safe_name(name.replace('/', '-') + '.pth')}.pth"
        store_threshold(source, target, models[name]["slides"]["score_thresh"], "best F1 on the validation slides")
        written.append(target)
    return written
