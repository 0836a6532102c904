"""Detectron2's DefaultTrainer with other parts; the training loop is Detectron2's own."""

from __future__ import annotations

import logging
import weakref
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, DefaultTrainer, HookBase, SimpleTrainer, create_ddp_model
from detectron2.engine.hooks import IterationTimer
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn
from torch.utils.data import DataLoader

from mhkd.config import Phase, PhaseSchedule
from mhkd.data.datasets import tile_dicts
from mhkd.data.mapper import TilePairMapper
from mhkd.data.stream import PositionSampler, TileStream, build_stream_loader
from mhkd.deploy.cpu.operators import use_cpu_operators
from mhkd.deploy.detector_file import Detector
from mhkd.engine.checkpoint import SafeCheckpointer, load_initial_weights
from mhkd.engine.ema import EMA
from mhkd.engine.hooks import ExactResume, ExportStudents, LossBalance, PhaseChange, ShowProgress
from mhkd.engine.optimizer import build_optimizer
from mhkd.engine.pseudo_labels import read_training_tiles
from mhkd.engine.selection import BestOnValidation
from mhkd.engine.student_export import StudentExporter, detector_traits
from mhkd.evaluation.tile_level import evaluate_tiles
from mhkd.modeling.meta_arch import MHKD
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest


class Trainer(DefaultTrainer):
    """Trains a single detector (teacher or baseline) or, with META_ARCHITECTURE MHKD, distils.

    One optimiser, one schedule, one moving average and one stream of data over all phases of the run: a phase changes
    the weights of losses and what is trainable.
    """

    def __init__(self, cfg: CfgNode, exporter: StudentExporter) -> None:
        """What DefaultTrainer does, with distributed training on CPUs as well (it names a device id, always).

        Args:
            cfg: that of a run, as :func:`mhkd.engine.run_config.fit_to_data` gives it.
            exporter: writes the student of every training step.
        """
        super(DefaultTrainer, self).__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        self.cfg = cfg
        self.schedule = exporter.schedule
        self.exporter = exporter
        model = self.build_model(cfg)
        # Before a phase has frozen anything: whatever learns in some phase is in the one optimiser from the start,
        # which passes over it, and keeps no state of it, until it has a gradient.
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        self._trainer = loop_of(cfg)(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The detector or distiller of ``cfg``, with all that any phase needs, started from MODEL.WEIGHTS if set."""
        schedule = PhaseSchedule.from_config(cfg)
        if cfg.MODEL.META_ARCHITECTURE != "MHKD":
            check_nothing_distilled(schedule)
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.MHKD.BFA.ENABLED = schedule.has_bfa
        model = build_model(cfg)
        if cfg.MODEL.WEIGHTS:
            load_initial_weights(trained_detector(model), cfg.MODEL.WEIGHTS)
        use_cpu_operators(model, cfg.MODEL.DEVICE)
        # Depthwise and small convolutions run up to twice as fast on a CPU in this layout.
        return model.to(memory_format=torch.channels_last)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader:
        distilling = cfg.MODEL.META_ARCHITECTURE == "MHKD"
        tiles = tile_dicts(read_training_tiles(cfg), "train", "student" if distilling else cfg.INPUT.SIDE)
        if cfg.INPUT.LOW_SHARE and (distilling or cfg.INPUT.SIDE != "teacher"):
            raise UserError(
                "INPUT.LOW_SHARE is set, and a student is trained",
                remedy="set it for the teacher, which is trained with INPUT.SIDE teacher",
            )
        mapper = TilePairMapper(
            with_teacher=distilling,
            color_jitter=cfg.INPUT.COLOR_JITTER,
            zoom=cfg.INPUT.ZOOM_JITTER,
            low_share=cfg.INPUT.LOW_SHARE,
        )
        world_size = comm.get_world_size()
        return build_stream_loader(
            TileStream(tiles, mapper, max(cfg.SEED, 0), cfg.DATALOADER.UNLABELLED_SHARE),
            PositionSampler(comm.get_rank(), world_size),
            cfg.SOLVER.IMS_PER_BATCH // world_size,
            cfg.DATALOADER.NUM_WORKERS,
            pin_memory=cfg.MODEL.DEVICE.startswith("cuda"),
        )

    def build_hooks(self) -> list[HookBase]:
        """Detectron2's hooks around a checkpointer that runs no pickle, and the project's own in their order.

        Before a step: the phase is entered, then every generator of random numbers is seeded. After it: the average
        takes it in, the losses are weighed, the detector is scored, the student of a step that ends is exported; then
        Detectron2 saves and writes.
        """
        cfg, settings = self.cfg, self.cfg.MODEL.MHKD
        self.checkpointer = SafeCheckpointer(
            self.model, cfg.OUTPUT_DIR, left_out=fixed_keys(self.model), trainer=weakref.proxy(self)
        )
        sampler = self._trainer.data_loader.sampler
        learnable = {name for name, p in trained_detector(self.model).named_parameters() if p.requires_grad}
        hooks: list[HookBase] = [
            PhaseChange(self.schedule, lambda phase: self.enter(phase, learnable)),
            ExactResume(sampler, cfg.SOLVER.IMS_PER_BATCH, max(cfg.SEED, 0)),
        ]
        self.ema: EMA | None = None
        if settings.EMA_DECAY:
            self.ema = EMA(lambda: trained_detector(self.model), settings.EMA_DECAY)
            self.checkpointer.add_checkpointable("ema", self.ema.state)
            hooks.append(self.ema)
        if cfg.MODEL.META_ARCHITECTURE == "MHKD":
            hooks.append(LossBalance(settings.MAX_RATIO))
        if comm.is_main_process():
            if cfg.TEST.EVAL_PERIOD:
                hooks.append(self._build_selection())
            hooks.append(ShowProgress(f"training {Path(cfg.OUTPUT_DIR).name}"))
            hooks.append(ExportStudents(self.schedule, lambda phase: self.exporter(self.detector_to_export(), phase)))
        # Timed from the first iteration on: without a time, a printer that is interrupted divides by zero.
        hooks.append(IterationTimer(warmup_iter=0))
        others = {"EvalHook", "IterationTimer"}
        return hooks + [hook for hook in super().build_hooks() if type(hook).__name__ not in others]

    def enter(self, phase: Phase, learnable: set[str]) -> None:
        """Make trainable what learns in ``phase``, and nothing else.

        Args:
            learnable: names of the student's parameters that learn unless a phase freezes them.
        """
        # Distributed training waits for the gradient of every parameter that wanted one when it was wrapped.
        model: Any = self.model
        model = getattr(model, "module", model)
        detector: Any = trained_detector(model)
        for name, parameter in detector.named_parameters():
            unused = name.startswith("bfa.") and not phase.bfa
            parameter.requires_grad_(name in learnable and not unused and not name.startswith(phase.frozen))
        detector.uses_bfa = phase.bfa
        if self.ema:
            self.ema.average.uses_bfa = phase.bfa
        if isinstance(model, MHKD):
            model.set_phase(phase)
        devices = None if self.cfg.MODEL.DEVICE == "cpu" else [comm.get_local_rank()]
        self._trainer.model = create_ddp_model(model, broadcast_buffers=False, device_ids=devices)

    def _build_selection(self) -> BestOnValidation:
        cfg = self.cfg
        manifest = Manifest.read(cfg.DATASETS.TILES)
        manifest.split("val")  # fails now where there is none, not after the first period
        traits = detector_traits(cfg, manifest)

        def score(detector: nn.Module) -> float | None:
            loaded = Detector(detector, cfg, **traits, provenance={}, path=Path(cfg.OUTPUT_DIR))
            return evaluate_tiles(loaded, manifest, "val", batch_size=cfg.SOLVER.IMS_PER_BATCH)["AP"]

        ends = {phase.stop for phase in self.schedule.phases}
        return BestOnValidation(self.detector_to_export, score, cfg.OUTPUT_DIR, cfg.TEST.EVAL_PERIOD, ends)

    def detector_to_export(self) -> nn.Module:
        """The moving average where there is one, else the trained detector itself."""
        return self.ema.average if self.ema else trained_detector(self.model)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        raise NotImplementedError("evaluation is mhkd evaluate")


def loop_of(cfg: CfgNode) -> type[SimpleTrainer]:
    """Detectron2's training loop for MODEL.MHKD.PRECISION: with float16 the loss is scaled."""
    return AMPTrainer if cfg.MODEL.MHKD.PRECISION == "float16" else SimpleTrainer


def trained_detector(model: nn.Module) -> nn.Module:
    """The detector that training changes: the student of a distiller, or the model itself."""
    inner = getattr(model, "module", model)  # DistributedDataParallel wraps it
    return inner.student if isinstance(inner, MHKD) else inner


def fixed_keys(model: nn.Module) -> set[str]:
    """Keys of the state of ``model`` that belong to a teacher and never learn; its file is known by its hash."""
    if not isinstance(model, MHKD):
        return set()
    learning = {f"teacher.{name}" for name, parameter in model.teacher.named_parameters() if parameter.requires_grad}
    return {f"teacher.{key}" for key in model.teacher.state_dict()} - learning


def check_nothing_distilled(schedule: PhaseSchedule) -> None:
    """A distillation weight on a detector that is trained alone would be read by no loss."""
    if named := [name for name, weight in schedule.weights.items() if weight]:
        raise UserError(
            f"MODEL.MHKD.LOSS_WEIGHTS.{named[0].upper()} is set, and nothing is distilled",
            remedy="set MODEL.META_ARCHITECTURE to MHKD, or the weight to 0",
        )
