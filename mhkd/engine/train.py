"""Run a training step: its phases one after another, resumable, each ending in an exported detector."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch.multiprocessing.spawn import ProcessException

from mhkd.deploy.detector import quiet_torch
from mhkd.engine.checkpoint import export_detector
from mhkd.engine.initialisation import resolve_init
from mhkd.engine.phases import phase_configs
from mhkd.engine.selection import BEST_FILE
from mhkd.engine.threshold import best_thresh
from mhkd.engine.trainer import Trainer, detector_traits
from mhkd.provenance import software
from mhkd.weights import load_strictly, read_checkpoint
from preprocess.base.errors import UserError
from preprocess.base.files import atomic_path, exclusive_use, sha256_of, write_json
from preprocess.tiles.manifest import Manifest

logger = logging.getLogger(__name__)

DETECTOR_FILE = "detector.pth"


def run_training(cfg: CfgNode) -> Path:
    """Train what ``cfg`` describes and return the path of the exported detector in its OUTPUT_DIR.

    A finished phase is not run again, an interrupted one goes on from its last checkpoint, and the result
    is the same, weight for weight, as that of an uninterrupted run (on one CPU).

    Raises:
        UserError: missing tiles, weights or previous step; a folder that holds a run of another
            configuration, or that another process trains in; a loss that is not finite.
    """
    with exclusive_use(cfg.OUTPUT_DIR) if comm.is_main_process() else nullcontext():
        return _run_phases(cfg)


def _run_phases(cfg: CfgNode) -> Path:
    manifest = Manifest.read(cfg.DATASETS.TILES)
    _check_split(manifest)
    cfg = resolve_init(cfg)
    weights = cfg.MODEL.WEIGHTS
    phases = phase_configs(fit_to_data(cfg, manifest))
    for phase in phases:
        exported = Path(phase.OUTPUT_DIR) / DETECTOR_FILE
        phase.defrost()
        phase.MODEL.WEIGHTS = str(weights)
        phase.freeze()
        inputs = _inputs_of(phase)
        _check_same_run(phase, inputs)
        if exported.is_file():
            logger.info("%s is finished, nothing to do", phase.OUTPUT_DIR)
        else:
            _run_phase(phase, manifest, inputs, exported, last=phase is phases[-1])
        comm.synchronize()  # every process goes on from what the first one wrote
        weights = exported
    result = Path(cfg.OUTPUT_DIR) / DETECTOR_FILE
    if comm.is_main_process():
        with atomic_path(result) as temporary:
            shutil.copyfile(weights, temporary)
    comm.synchronize()
    return result


def launch_training(cfg: CfgNode, num_processes: int = 1) -> Path:
    """:func:`run_training` in ``num_processes`` processes of this machine, one a GPU, or on its CPU (gloo).

    SOLVER.IMS_PER_BATCH is the batch of all of them together. A loss is averaged over the processes, so what it
    normalises by (PKD's statistics, the number of foreground RoIs) is that of one process.

    Raises:
        UserError: what :func:`run_training` raises, or a batch that does not divide.
    """
    if cfg.SOLVER.IMS_PER_BATCH % num_processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} does not divide among {num_processes} processes",
            remedy="choose a multiple of the number of processes",
        )
    try:
        launch(run_training, num_processes, dist_url="auto", args=(cfg,))
    except ProcessException as error:
        reason = str(error).strip().splitlines()[-1].rpartition("UserError: ")[2]
        raise UserError(f"a training process failed: {reason}", path=cfg.OUTPUT_DIR) from None
    return Path(cfg.OUTPUT_DIR) / DETECTOR_FILE


def _run_phase(cfg: CfgNode, manifest: Manifest, inputs: dict[str, str], exported: Path, *, last: bool) -> None:
    seed_all_rng(cfg.SEED)
    try:
        trainer = Trainer(cfg)
        if trainer.checkpointer.has_checkpoint():
            trainer.resume_or_load(resume=True)
        # A run that was stopped between its last checkpoint and its export has no iteration left.
        if trainer.start_iter < trainer.max_iter:
            with quiet_torch():
                trainer.train()
    except FloatingPointError as error:
        raise UserError(
            f"training diverged: {_what_diverged(str(error))}",
            path=cfg.OUTPUT_DIR,
            remedy="lower SOLVER.BASE_LR or the loss weights",
        ) from None
    if not comm.is_main_process():
        return
    detector = trainer.detector_to_export()
    iterations = cfg.SOLVER.MAX_ITER
    if cfg.MODEL.MHKD.SELECT == "best":
        best = read_checkpoint(Path(cfg.OUTPUT_DIR) / BEST_FILE)
        load_strictly(detector, best["model"], BEST_FILE)
        iterations = best["iteration"]
    provenance = {**software(), "inputs": inputs, "seed": cfg.SEED, "iterations": iterations}
    traits = detector_traits(cfg, manifest)
    thresh = best_thresh(detector, cfg, manifest, traits) if last else None
    if thresh is not None:
        provenance["score_thresh_origin"] = "best F1 on the validation tiles"
    export_detector(exported, detector, cfg, **traits, provenance=provenance, score_thresh=thresh)


def _what_diverged(message: str) -> str:
    """The first line of the trainer's message, with the names of the losses that are not finite."""
    first, _, losses = message.partition("\n")
    names = re.findall(r"'(\w+)': (?:np\.float64\()?-?(?:nan|inf)\b", losses)
    return first + (f" ({', '.join(names)})" if names else "")


def fit_to_data(cfg: CfgNode, manifest: Manifest) -> CfgNode:
    """The number of classes follows the data; the seed must be a real one."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(manifest.labels)
    cfg.MODEL.RETINANET.NUM_CLASSES = cfg.MODEL.FCOS.NUM_CLASSES = len(manifest.labels)
    if cfg.MODEL.MHKD.SELECT not in {"last", "best"}:
        raise UserError(f"MODEL.MHKD.SELECT is {cfg.MODEL.MHKD.SELECT!r}", remedy='use "last" or "best"')
    if cfg.MODEL.MHKD.SELECT == "best" and not cfg.TEST.EVAL_PERIOD:
        raise UserError("MODEL.MHKD.SELECT is best, and nothing is scored", remedy="set TEST.EVAL_PERIOD")
    if cfg.SEED < 0:
        raise UserError("SEED is negative", remedy="give a seed of 0 or more, so that the run can be repeated")
    return cfg


def _check_split(manifest: Manifest) -> None:
    if not len(manifest.split("train").boxes):
        raise UserError(
            "the training tiles hold no object", path=manifest.root, remedy="check annotations and splits in slides.csv"
        )


def _inputs_of(cfg: CfgNode) -> dict[str, str]:
    """What decides the outcome of a phase, as hashes: configuration, tiles, and weights it starts from."""
    neutral = cfg.clone()
    neutral.defrost()
    # Where files lie does not change what comes out; what is in them does.
    neutral.OUTPUT_DIR = neutral.DATASETS.TILES = neutral.MODEL.WEIGHTS = ""
    neutral.MODEL.MHKD.TEACHER.WEIGHTS = neutral.MODEL.MHKD.TEACHER.CONFIG_FILE = ""
    neutral.DATALOADER.NUM_WORKERS = 0  # a position is the same sample whoever loads it
    files = {
        "tiles": Path(cfg.DATASETS.TILES) / "manifest.csv",
        "boxes": Path(cfg.DATASETS.TILES) / "boxes.csv",
        "weights": cfg.MODEL.WEIGHTS,
        "teacher_weights": cfg.MODEL.MHKD.TEACHER.WEIGHTS,
        "teacher_config": cfg.MODEL.MHKD.TEACHER.CONFIG_FILE,
    }
    hashes = {"config": hashlib.sha256(neutral.dump().encode()).hexdigest()}
    for name, file in files.items():
        if file and "://" not in str(file):
            if not Path(file).is_file():
                raise UserError(f"{name.replace('_', ' ')} not found", path=file, remedy=_REMEDIES.get(name, ""))
            hashes[name] = sha256_of(file)
    return hashes


def hash_of_start(weights: str) -> str | None:
    """SHA-256 of the file that MODEL.WEIGHTS names; None where it names none, or one to be downloaded."""
    return sha256_of(weights) if weights and "://" not in weights else None


_REMEDIES = {
    "weights": "it is the result of the previous step: run that first, for instance make train-step1",
    "teacher_weights": "run make train-teacher first",
}


def _check_same_run(cfg: CfgNode, inputs: dict[str, Any]) -> None:
    """Refuse to continue a folder that another configuration, other tiles or other weights began."""
    record = Path(cfg.OUTPUT_DIR) / "run.json"
    if not record.is_file():
        comm.synchronize()  # nobody looks for the record after the first process has written it
        if comm.is_main_process():
            write_json(record, inputs)
        return
    before = json.loads(record.read_text(encoding="utf-8"))
    changed = sorted(k for k in {*before, *inputs} if before.get(k) != inputs.get(k))
    if changed:
        raise UserError(
            f"holds a run with other {', '.join(changed).replace('_', ' ')}",
            path=cfg.OUTPUT_DIR,
            remedy="remove the folder to train again, or give another --output-dir",
        )
