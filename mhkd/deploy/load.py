"""From what a user calls a model (a checkpoint, an exported graph, a name) to a detector that is ready and fast."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from mhkd.deploy.cpu.compiled import freeze_convolutions
from mhkd.deploy.cpu.malloc import prepare_heap
from mhkd.deploy.cpu.operators import are_wanted
from mhkd.deploy.detector import Detector
from mhkd.deploy.detector_file import load_detector, resolve_device
from mhkd.deploy.exported import SUFFIXES, load_exported
from mhkd.deploy.fold import fold_detector
from mhkd.deploy.registry import find_model
from mhkd.modeling.precision import name_of, resolve_precision
from mhkd.weights import export_config, read_export
from preprocess.base.errors import UserError

BACKENDS = ("auto", "torch", "eager", "onnxruntime", "openvino")
TILE_FACTOR = 4
"""Tiles of a slide are this many times as wide as those of the training set: fewer seams, and more context."""
MIN_SIDE_PX = 448
"""Or more times, until the network computes this side: below, what a tile costs whatever its size costs the most."""


def check_model(path: Path, backend: str = "auto") -> None:
    """Raise UserError where the file of a model is damaged or something else: once, before any slide."""
    if path.suffix in SUFFIXES:
        load_exported(path, "cpu", backend)
    else:
        export_config(read_export(path), path)


def load_model(
    model: str | Path, device: str = "auto", *, backend: str = "auto", precision: str | None = None
) -> Detector:
    """The detector that ``model`` names, ready to predict slides.

    Its ``tile_px`` is the side that tiles of a slide should have: TILE_FACTOR times that of the training set, or what
    makes MIN_SIDE_PX after up-sampling.

    Args:
        model: a checkpoint that training exported (.pth), a graph of ``mhkd export`` (.torchscript, .onnx),
            or a name of the registry.
        device: "cpu", "cuda", "cuda:1" and so on, or "auto".
        backend: "auto" is the fastest that is sure to be there: for checkpoints "torch", which is frozen graphs on
            CPUs and on GPUs Detectron2 with folded BatchNorm and weights kept in the precision of use; ONNX Runtime
            for ONNX files. "eager" is Detectron2 as it is, on both.
        precision: a value of MODEL.MHKD.PRECISION in place of what the checkpoint's configuration says.

    Raises:
        UserError: the model is unknown, damaged or of the wrong kind for the backend; there is no such device.
    """
    if backend not in BACKENDS:
        raise UserError(f"there is no backend {backend!r}", remedy=f"choose one of {', '.join(BACKENDS)}")
    path = find_model(model)
    device = resolve_device(device, here=False)  # building the network on it will tell
    if are_wanted(device):
        prepare_heap()
    if path.suffix in SUFFIXES:
        return load_exported(path, device, backend)
    if backend not in ("auto", "torch", "eager"):
        raise UserError(f"the backend {backend} does not run checkpoints", path=path, remedy="export it: mhkd export")
    detector = load_detector(path, device)
    network: Any = detector.model
    if precision is not None:
        network.precision = precision
    factor = max(TILE_FACTOR, math.ceil(MIN_SIDE_PX / (detector.tile_px * getattr(network, "upsample", 1))))
    widen_tiles(network, factor)
    device_type = device.partition(":")[0]
    dtype = resolve_precision(getattr(network, "precision", "float32"), device_type)
    how = f"{device_type}, {name_of(dtype)}"
    detector = replace(detector, tile_px=factor * detector.tile_px, computed_by=f"Detectron2, {how}")
    if backend == "eager":
        return detector
    if not are_wanted(device):
        folded = fold_detector(network, dtype=dtype)
        return replace(detector, computed_by=f"folded Detectron2, {how}") if folded else detector
    frozen = freeze_convolutions(network, dtype=dtype)
    if frozen is network:
        return detector
    return replace(detector, model=frozen, is_thread_safe=True, computed_by=f"frozen graphs, {how}")


def resolve_backend(path: str | Path, backend: str) -> str:
    """What ``backend`` means for the model at ``path``: for "auto" what fits the file, whatever the device."""
    return SUFFIXES.get(Path(path).suffix, "torch") if backend == "auto" else backend


def widen_tiles(model: Any, factor: int) -> None:
    """Let ``model`` consider and detect more in a tile ``factor`` times as wide, in place.

    As many candidates for each area as before, but proposals and detections grow with the side alone: objects are
    rare, and what the RoI heads cost is in proportion to the proposals (figures in docs/speed.md).
    """
    rpn = getattr(model, "proposal_generator", None)
    for name, more in (("pre_nms_topk", factor**2), ("post_nms_topk", factor)):
        if hasattr(rpn, name):
            getattr(rpn, name)[False] *= more
    predictors: Any = getattr(getattr(model, "roi_heads", None), "box_predictor", ())
    stages: list[Any] = list(predictors) if isinstance(predictors, nn.ModuleList) else [predictors]  # of a cascade
    counts = [(predictor, "test_topk_per_image") for predictor in stages]
    counts += [(model, "test_topk_candidates"), (model, "max_detections_per_image")]  # of one-stage detectors
    for owner, name in counts:
        if hasattr(owner, name):
            setattr(owner, name, getattr(owner, name) * factor)
