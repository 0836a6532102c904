"""Run a training from its first iteration to its last or to the end of a step: resumable, and never another's."""

from __future__ import annotations

import logging
import re
from contextlib import nullcontext
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from mhkd.config import Phase, PhaseSchedule
from mhkd.deploy.detector import quiet_torch
from mhkd.engine.initialisation import resolve_init
from mhkd.engine.run_config import fit_to_data
from mhkd.engine.run_record import logging_to, open_run
from mhkd.engine.student_export import StudentExporter
from mhkd.engine.trainer import Trainer
from preprocess.base.errors import UserError
from preprocess.base.files import exclusive_use
from preprocess.tiles.manifest import Manifest

logger = logging.getLogger(__name__)


def run_training(cfg: CfgNode, until_step: int | None = None) -> Path:
    """Train what ``cfg`` describes and return the path of the exported detector in its OUTPUT_DIR.

    A run that was interrupted, or that ended with an earlier step, goes on from its last checkpoint with optimiser and
    position, and the result is the same, weight for weight, as that of an uninterrupted run (on one CPU).

    Args:
        until_step: the training step after which to stop; None for the whole run. The student of every step on the way
            is exported as ``step<number>/detector.pth``, the last detector as ``detector.pth``.

    Raises:
        UserError: missing tiles or weights; a step that is not in MODEL.MHKD.PHASES; a folder that holds another run,
            or that another process trains in; a loss that is not finite.
    """
    main = comm.is_main_process()
    with exclusive_use(cfg.OUTPUT_DIR) if main else nullcontext(), logging_to(cfg.OUTPUT_DIR):
        return _train(cfg, until_step)


def _train(cfg: CfgNode, until_step: int | None) -> Path:
    manifest = Manifest.read(cfg.DATASETS.TILES)
    _check_split(manifest)
    if manifest.failed_slides:
        logger.warning(
            "%s: trained without %d slides that could not be cut: %s",
            manifest.root,
            len(manifest.failed_slides),
            ", ".join(manifest.failed_slides),
        )
    cfg = fit_to_data(resolve_init(cfg), manifest)
    last = _last_phase(PhaseSchedule.from_config(cfg), until_step)
    exporter = StudentExporter(cfg, manifest, open_run(cfg))
    result = exporter.paths(last)[-1]
    # Every process looks before one of them writes.
    finished = all(path.is_file() for path in exporter.paths(last))
    comm.synchronize()
    if not finished:
        _run(cfg, exporter, last)
    comm.synchronize()
    return result


def _run(cfg: CfgNode, exporter: StudentExporter, last: Phase) -> None:
    seed_all_rng(cfg.SEED)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    try:
        trainer = Trainer(cfg, exporter)
        if trainer.checkpointer.has_checkpoint():
            trainer.resume_or_load(resume=True)
        if trainer.start_iter > last.stop:
            raise UserError(
                f"the training has gone on to iteration {trainer.start_iter}, and what it was at {last.stop} is gone",
                path=cfg.OUTPUT_DIR,
                remedy="remove the folder to train again, or leave --until-step out",
            )
        trainer.max_iter = last.stop
        if trainer.start_iter < last.stop:
            with quiet_torch():
                trainer.train()
        elif comm.is_main_process():  # it was stopped after its last iteration, and somebody removed what it exported
            exporter(trainer.detector_to_export(), last)
    except FloatingPointError as error:
        raise UserError(
            f"training diverged: {_what_diverged(str(error))}",
            path=cfg.OUTPUT_DIR,
            remedy="lower SOLVER.BASE_LR or the loss weights",
        ) from None


def _last_phase(schedule: PhaseSchedule, until_step: int | None) -> Phase:
    if until_step is None:
        return schedule.phases[-1]
    if until_step not in schedule.steps:
        known = ", ".join(map(str, schedule.steps)) or "none"
        raise UserError(f"there is no training step {until_step}", remedy=f"those of MODEL.MHKD.PHASES are {known}")
    return schedule.steps[until_step]


def _what_diverged(message: str) -> str:
    """The first line of the trainer's message, with the names of the losses that are not finite."""
    first, _, losses = message.partition("\n")
    names = re.findall(r"'(\w+)': (?:np\.float64\()?-?(?:nan|inf)\b", losses)
    return first + (f" ({', '.join(names)})" if names else "")


def _check_split(manifest: Manifest) -> None:
    if not len(manifest.split("train").boxes):
        raise UserError(
            "the training tiles hold no object", path=manifest.root, remedy="check annotations and splits in slides.csv"
        )
