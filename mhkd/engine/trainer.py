"""Detectron2's DefaultTrainer with other parts: it overrides ``build_*`` only."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.modeling import build_model
from detectron2.solver.build import build_optimizer, get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from torch import nn
from torch.utils.data import DataLoader

from mhkd.config import read_config
from mhkd.data.datasets import tile_dicts
from mhkd.data.mapper import TilePairMapper
from mhkd.data.stream import PositionSampler, TileStream, build_stream_loader
from mhkd.engine.checkpoint import SafeCheckpointer, load_detector, load_initial_weights, load_strictly, read_checkpoint
from mhkd.engine.hooks import ExactResume
from mhkd.modeling.meta_arch import MHKD
from mhkd.modeling.teacher import Teacher
from preprocess.errors import UserError
from preprocess.manifest import Manifest


class Trainer(DefaultTrainer):
    """Trains a single detector (teacher or baseline) or, with META_ARCHITECTURE MHKD, distils."""

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The detector or distiller of ``cfg``, started from MODEL.WEIGHTS where that is set."""
        if cfg.MODEL.META_ARCHITECTURE == "MHKD":
            model: nn.Module = MHKD(cfg, teacher=build_teacher(cfg), scale_ratio=scale_ratio(cfg)).to(cfg.MODEL.DEVICE)
        else:
            model = build_model(cfg)
        if cfg.MODEL.WEIGHTS:
            load_initial_weights(trained_detector(model), cfg.MODEL.WEIGHTS)
        # Depthwise and small convolutions run up to twice as fast on a CPU in this layout.
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        if cfg.SOLVER.OPTIMIZER == "sgd":
            return build_optimizer(cfg, model)
        if cfg.SOLVER.OPTIMIZER != "adamw":
            raise UserError(f"SOLVER.OPTIMIZER is {cfg.SOLVER.OPTIMIZER!r}", remedy='use "sgd" or "adamw"')
        groups = get_default_optimizer_params(
            model, weight_decay=cfg.SOLVER.WEIGHT_DECAY, weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM
        )
        optimizer = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
        return optimizer(groups, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader:
        distilling = cfg.MODEL.META_ARCHITECTURE == "MHKD"
        tiles = tile_dicts(Manifest.read(cfg.DATASETS.TILES), "train", "student" if distilling else cfg.INPUT.SIDE)
        mapper = TilePairMapper(with_teacher=distilling, color_jitter=cfg.INPUT.COLOR_JITTER)
        world_size = comm.get_world_size()
        return build_stream_loader(
            TileStream(tiles, mapper, max(cfg.SEED, 0)),
            PositionSampler(comm.get_rank(), world_size),
            cfg.SOLVER.IMS_PER_BATCH // world_size,
            cfg.DATALOADER.NUM_WORKERS,
        )

    def build_hooks(self) -> list[HookBase]:
        """Detectron2's hooks around a checkpointer that runs no pickle, less evaluation, plus exact resume."""
        self.checkpointer = SafeCheckpointer(self.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        sampler = self._trainer.data_loader.sampler
        hooks = [hook for hook in super().build_hooks() if type(hook).__name__ != "EvalHook"]
        return [ExactResume(sampler, self.cfg.SOLVER.IMS_PER_BATCH, max(self.cfg.SEED, 0)), *hooks]

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        raise NotImplementedError("evaluation is tools/evaluate.py")


def trained_detector(model: nn.Module) -> nn.Module:
    """The detector that training changes: the student of a distiller, or the model itself."""
    inner = getattr(model, "module", model)  # DistributedDataParallel wraps it
    return inner.student if isinstance(inner, MHKD) else inner


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
        return Teacher(load_detector(settings.WEIGHTS, cfg.MODEL.DEVICE).model)
    teacher_cfg = read_config(settings.CONFIG_FILE, ["MODEL.DEVICE", cfg.MODEL.DEVICE, "MODEL.TIMM.PRETRAINED", "none"])
    detector = build_model(teacher_cfg)
    content = read_checkpoint(settings.WEIGHTS)
    load_strictly(detector, content.get("model", content), settings.WEIGHTS)
    return Teacher(detector)


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
