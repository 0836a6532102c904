"""From what a user calls a model (a checkpoint, an exported graph, a name) to a detector that is ready and fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from mhkd.modeling.precision import resolve_bf16
from mhkd.models.checkpoint import Detector, load_detector, resolve_device
from mhkd.models.compiled import freeze_convolutions
from mhkd.models.exported import SUFFIXES, ExportedDetector, load_exported
from mhkd.models.registry import find_model
from preprocess.errors import UserError

BACKENDS = ("auto", "torch", "eager", "onnxruntime", "openvino")
TILE_FACTOR = 4
"""Tiles of a slide are this many times as wide as those of the training set: fewer seams, and more context."""


def load_model(
    model: str | Path, device: str = "auto", *, backend: str = "auto", bf16: str | None = None
) -> Detector | ExportedDetector:
    """The detector that ``model`` names, ready to predict slides.

    model: a checkpoint that training exported (.pth), a graph of ``tools/export_model.py`` (.torchscript, .onnx), or a
    name of the registry. device: "cpu", "cuda" or "auto". backend: "auto" is the fastest that is sure to be there:
    frozen graphs in torch on CPUs ("torch"), Detectron2 as it is on GPUs ("eager"), ONNX Runtime for ONNX files.
    bf16: "auto", "on" or "off" in place of what the checkpoint's configuration says.
    Its ``tile_px`` is the side that tiles of a slide should have: TILE_FACTOR times that of the training set.

    Raises UserError where the model is unknown, damaged or of the wrong kind for the backend.
    """
    if backend not in BACKENDS:
        raise UserError(f"there is no backend {backend!r}", remedy=f"choose one of {', '.join(BACKENDS)}")
    path = find_model(model)
    device = resolve_device(device)
    if path.suffix in SUFFIXES:
        return load_exported(path, device, backend)
    if backend not in ("auto", "torch", "eager"):
        raise UserError(
            f"the backend {backend} does not run checkpoints", path=path, remedy="export it: tools/export_model.py"
        )
    detector = load_detector(path, device)
    network: Any = detector.model
    if bf16 is not None:
        network.bf16 = bf16
    widen_tiles(network, TILE_FACTOR)
    detector = replace(detector, tile_px=TILE_FACTOR * detector.tile_px)
    if device != "cpu" or backend == "eager":
        return detector
    native = resolve_bf16(getattr(network, "bf16", "off"), "cpu")
    return replace(detector, model=freeze_convolutions(network, bf16=native))


def widen_tiles(model: Any, factor: float) -> None:
    """Let ``model`` propose and find more in a tile ``factor`` times as wide, in place.

    Not ``factor`` squared times as much, for objects are rare and NMS grows with the square: with factor 4 this costs
    10 to 35 % less time at the same AP (docs/speed.md).
    """
    more = factor**1.5
    rpn = getattr(model, "proposal_generator", None)
    for name in ("pre_nms_topk", "post_nms_topk"):
        if hasattr(rpn, name):
            counts = getattr(rpn, name)
            counts[False] = round(counts[False] * more)
    predictors: Any = getattr(getattr(model, "roi_heads", None), "box_predictor", ())
    stages: list[Any] = list(predictors) if isinstance(predictors, nn.ModuleList) else [predictors]  # of a cascade
    for predictor in stages:
        if hasattr(predictor, "test_topk_per_image"):
            predictor.test_topk_per_image = round(predictor.test_topk_per_image * more)
    for name in ("test_topk_candidates", "max_detections_per_image"):  # of one-stage detectors
        if hasattr(model, name):
            setattr(model, name, round(getattr(model, name) * more))
