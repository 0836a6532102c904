"""Checkpoints in and out: weights without executing pickles, the detector they belong to without silent mismatches."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

import mhkd.modeling  # noqa: F401  registers the architectures that a configuration may name
from mhkd.deploy.cpu.operators import use_cpu_operators
from mhkd.deploy.detector import Detector as LoadedDetector
from mhkd.weights import export_config, load_strictly, read_export
from preprocess.base.errors import UserError


@dataclass(frozen=True)
class Detector(LoadedDetector):
    """A detector that training exported, whose ``tile_px`` is that of its training tiles; ``cfg`` says its device."""

    model: nn.Module
    cfg: CfgNode
    device: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", self.cfg.MODEL.DEVICE)


def resolve_device(name: str, *, here: bool = True) -> str:
    """A device name, with "auto" as cuda where there is one and cpu elsewhere.

    Args:
        here: whether the device is one of this machine's, and not of a cluster's.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    gpus = torch.cuda.device_count() if here else math.inf
    if not (device == torch.device("cpu") or (device.type == "cuda" and (device.index or 0) < gpus)):
        raise UserError(f"there is no device {name!r}", remedy="give cpu, cuda, cuda:1 and so on, or auto")
    return name


def load_detector(path: str | Path, device: str = "cpu") -> Detector:
    """Build the detector that ``mhkd.engine.checkpoint.export_detector`` wrote, in evaluation mode on ``device``.

    Raises:
        UserError: the file is missing, damaged, no exported detector, or does not fit its own configuration.
    """
    content = read_export(path)
    cfg = export_config(content, path)
    cfg.MODEL.DEVICE = device
    try:
        model = build_model(cfg)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"cannot use device {device!r}: {error}", remedy="use --device cpu") from None
    load_strictly(model, content["model"], path)
    use_cpu_operators(model, device)
    return Detector(
        model=model.eval().requires_grad_(False).to(memory_format=torch.channels_last),
        cfg=cfg,
        input_mpp=float(content["input_mpp"]),
        tile_px=int(content["tile_px"]),
        class_names=tuple(content["class_names"]),
        provenance=content.get("provenance", {}),
        path=Path(path),
        score_thresh=content.get("score_thresh"),
    )
