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

from mhkd.config import read_config
from mhkd.data.datasets import tile_dicts
from mhkd.data.mapper import TilePairMapper
from mhkd.data.stream import PositionSampler, TileStream, build_stream_loader
from mhkd.deploy.cpu.operators import use_cpu_operators
from mhkd.deploy.detector_file import Detector, load_detector
from mhkd.engine.checkpoint import SafeCheckpointer, load_initial_weights
from mhkd.engine.ema import EMA
from mhkd.engine.hooks import ExactResume, LossBalance
from mhkd.engine.optimizer import build_optimizer
from mhkd.engine.selection import BestOnValidation
from mhkd.evaluation.tile_level import evaluate_tiles
from mhkd.modeling.meta_arch import MHKD
from mhkd.modeling.pairing import as_teacher
from mhkd.modeling.teacher import Teacher
from mhkd.weights import load_strictly, read_checkpoint
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest


class Trainer(DefaultTrainer):
    """Trains a single detector (teacher or baseline) or, with META_ARCHITECTURE MHKD, distils."""

    def __init__(self, cfg: CfgNode) -> None:
        """What DefaultTrainer does, with distributed training on CPUs as well (it names a device id, always)."""
        super(DefaultTrainer, self).__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        devices = None if cfg.MODEL.DEVICE == "cpu" else [comm.get_local_rank()]
        model = create_ddp_model(model, broadcast_buffers=False, device_ids=devices)
        self._trainer = (AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer)(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The detector or distiller of ``cfg``, started from MODEL.WEIGHTS where that is set."""
        if cfg.MODEL.META_ARCHITECTURE == "MHKD":
            model: nn.Module = MHKD(cfg, teacher=build_teacher(cfg), scale_ratio=scale_ratio(cfg)).to(cfg.MODEL.DEVICE)
        else:
            check_no_weights(cfg)
            model = build_model(cfg)
        if cfg.MODEL.WEIGHTS:
            load_initial_weights(trained_detector(model), cfg.MODEL.WEIGHTS)
        use_cpu_operators(model, cfg.MODEL.DEVICE)
        # Depthwise and small convolutions run up to twice as fast on a CPU in this layout.
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader:
        distilling = cfg.MODEL.META_ARCHITECTURE == "MHKD"
        tiles = tile_dicts(Manifest.read(cfg.DATASETS.TILES), "train", "student" if distilling else cfg.INPUT.SIDE)
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
            TileStream(tiles, mapper, max(cfg.SEED, 0)),
            PositionSampler(comm.get_rank(), world_size),
            cfg.SOLVER.IMS_PER_BATCH // world_size,
            cfg.DATALOADER.NUM_WORKERS,
        )

    def build_hooks(self) -> list[HookBase]:
        """Detectron2's hooks around a checkpointer that runs no pickle, and the project's own in their order.

        After a step: the average takes it in, the losses are weighed, the detector is scored; then Detectron2 saves
        and writes.
        """
        cfg, settings = self.cfg, self.cfg.MODEL.MHKD
        self.checkpointer = SafeCheckpointer(self.model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        sampler = self._trainer.data_loader.sampler
        hooks: list[HookBase] = [ExactResume(sampler, cfg.SOLVER.IMS_PER_BATCH, max(cfg.SEED, 0))]
        model = self.model
        if settings.EMA_DECAY:
            ema = EMA(lambda: trained_detector(model), settings.EMA_DECAY)
            self.ema: EMA | None = ema
            self.checkpointer.add_checkpointable("ema", ema.state)
            hooks.append(ema)
        else:
            self.ema = None
        if cfg.MODEL.META_ARCHITECTURE == "MHKD":
            hooks.append(LossBalance(settings.MAX_RATIO))
        if cfg.TEST.EVAL_PERIOD and comm.is_main_process():
            hooks.append(self._build_selection())
        # Timed from the first iteration on: without a time, a printer that is interrupted divides by zero.
        hooks.append(IterationTimer(warmup_iter=0))
        others = {"EvalHook", "IterationTimer"}
        return hooks + [hook for hook in super().build_hooks() if type(hook).__name__ not in others]

    def _build_selection(self) -> BestOnValidation:
        cfg = self.cfg
        manifest = Manifest.read(cfg.DATASETS.TILES)
        manifest.split("val")  # fails now where there is none, not after the first period
        traits = detector_traits(cfg, manifest)

        def score(detector: nn.Module) -> float | None:
            loaded = Detector(detector, cfg, **traits, provenance={}, path=Path(cfg.OUTPUT_DIR))
            return evaluate_tiles(loaded, manifest, "val", batch_size=cfg.SOLVER.IMS_PER_BATCH)["AP"]

        return BestOnValidation(self.detector_to_export, score, cfg.OUTPUT_DIR, cfg.TEST.EVAL_PERIOD)

    def detector_to_export(self) -> nn.Module:
        """The moving average where there is one, else the trained detector itself."""
        return self.ema.average if self.ema else trained_detector(self.model)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        raise NotImplementedError("evaluation is tools/evaluate.py")


def trained_detector(model: nn.Module) -> nn.Module:
    """The detector that training changes: the student of a distiller, or the model itself."""
    inner = getattr(model, "module", model)  # DistributedDataParallel wraps it
    return inner.student if isinstance(inner, MHKD) else inner


def check_no_weights(cfg: CfgNode) -> None:
    """A distillation weight on a detector that is trained alone would be read by no loss."""
    if named := [name for name, weight in cfg.MODEL.MHKD.LOSS_WEIGHTS.items() if weight]:
        raise UserError(
            f"MODEL.MHKD.LOSS_WEIGHTS.{named[0]} is set, and nothing is distilled",
            remedy="set MODEL.META_ARCHITECTURE to MHKD, or the weight to 0",
        )


def detector_traits(cfg: CfgNode, manifest: Manifest) -> dict[str, Any]:
    """What a caller must know to feed the detector that ``cfg`` trains: input_mpp, tile_px and class_names."""
    side = "teacher" if cfg.MODEL.META_ARCHITECTURE != "MHKD" and cfg.INPUT.SIDE == "teacher" else "student"
    return {
        "input_mpp": getattr(manifest, f"{side}_mpp"),
        "tile_px": int(manifest.tiles[f"{side}_width"].iloc[0]),
        "class_names": tuple(manifest.labels),
    }


def build_teacher(cfg: CfgNode) -> Teacher:
    """The frozen teacher of MODEL.MHKD.TEACHER on the configured device.

    Raises:
        UserError: no weights named, missing, or not those of its configuration.
    """
    settings = cfg.MODEL.MHKD.TEACHER
    if not settings.WEIGHTS:
        raise UserError(
            "MODEL.MHKD.TEACHER.WEIGHTS is empty", remedy="run make train-teacher and name its detector.pth"
        )
    if not settings.CONFIG_FILE:
        return as_teacher(load_detector(settings.WEIGHTS, cfg.MODEL.DEVICE).model, tuple(settings.TRAINABLE))
    teacher_cfg = read_config(settings.CONFIG_FILE, ["MODEL.DEVICE", cfg.MODEL.DEVICE, "MODEL.TIMM.PRETRAINED", "none"])
    detector = build_model(teacher_cfg)
    content = read_checkpoint(settings.WEIGHTS)
    load_strictly(detector, content.get("model", content), settings.WEIGHTS)
    return as_teacher(detector, tuple(settings.TRAINABLE))


def scale_ratio(cfg: CfgNode) -> int:
    """Teacher pixels per pixel of the up-sampled student image, s / u."""
    manifest = Manifest.read(cfg.DATASETS.TILES)
    ratio = manifest.student_mpp / manifest.teacher_mpp / cfg.MODEL.MHKD.UPSAMPLE
    if ratio < 1 or abs(ratio - round(ratio)) > 1e-6:
        raise UserError(
            f"MODEL.MHKD.UPSAMPLE {cfg.MODEL.MHKD.UPSAMPLE} does not divide the tiles' scale factor "
            f"{manifest.student_mpp / manifest.teacher_mpp:g}",
            remedy="set it to the factor itself, or to it divided by a power of two",
        )
    return round(ratio)
