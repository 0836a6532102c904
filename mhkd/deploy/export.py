"""A trained detector out, as a graph that runs without this project's code: TorchScript or ONNX."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from detectron2.export import TracingAdapter
from detectron2.structures import Instances
from torch import Tensor, nn

from mhkd.deploy.detector import quiet_torch
from mhkd.deploy.detector_file import Detector
from mhkd.deploy.exported import CARD_KEY, EXPORT_VERSION, SUFFIXES
from mhkd.deploy.fold import fold_batch_norms
from mhkd.modeling.detectors import Upsampled
from preprocess.base.errors import UserError
from preprocess.base.files import atomic_path, sha256_of

ONNX_OPSET = 17  # RoIAlign as Detectron2 means it (half-pixel) needs 16


def export_graph(detector: Detector, path: str | Path, *, score_thresh: float | None = None) -> Path:
    """Write ``detector``, which is on the CPU, to ``path``; its suffix, .torchscript or .onnx, says what as.

    The graph computes in float32 and takes one image of any size, which is what Detectron2's tracing allows; see
    ``mhkd.deploy.exported``. The file is complete or absent.

    Args:
        score_thresh: the score from which on a detection counts, for whoever loads the file; by default what the
            checkpoint says.

    Raises:
        UserError: another suffix, a detector that cannot be traced, or ONNX without the package ``onnx``.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"cannot export to {path.suffix or 'a file without suffix'}",
            path=path,
            remedy=f"name it with {' or '.join(SUFFIXES)}",
        )
    given = {} if score_thresh is None else {"score_thresh_origin": "given when the model was exported"}
    card = {
        "format": EXPORT_VERSION,
        "input_mpp": detector.input_mpp,
        "tile_px": detector.tile_px,
        "class_names": list(detector.class_names),
        "score_thresh": detector.score_thresh if score_thresh is None else score_thresh,
        "provenance": detector.provenance | given,
        "source": {"file": detector.path.name, "sha256": sha256_of(detector.path)},
    }
    graph, example = _traceable(detector, path)
    with atomic_path(path) as temporary, torch.no_grad(), quiet_torch(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what tracing cannot follow; the parity test is what tells
        if path.suffix == ".onnx":
            _write_onnx(graph, example, card, temporary)
        else:
            # Not frozen: a file of the weights as they are, which the loader fuses for its own machine.
            traced = torch.jit.trace(graph, example, check_trace=False)
            torch.jit.save(traced, str(temporary), _extra_files={CARD_KEY: json.dumps(card)})
    return path


def _traceable(detector: Detector, path: Path) -> tuple[nn.Module, tuple[Tensor]]:
    if not isinstance(detector.model, Upsampled):
        raise UserError(
            f"a {type(detector.model).__name__} cannot be exported", path=path, remedy="use the checkpoint itself"
        )
    model = copy.deepcopy(detector.model)
    model.precision = "float32"
    fold_batch_norms(model.backbone)
    image = torch.randint(0, 256, (3, detector.tile_px, detector.tile_px + 32), dtype=torch.uint8)
    adapter = TracingAdapter(model, [{"image": image}], _infer)
    return adapter.eval(), (image,)  # modules are born in training mode


def _infer(model: Any, inputs: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    images = model.preprocess_image(inputs)
    found: Instances = model.detect(images, model.features(images))[0]
    return found.pred_boxes.tensor / model.upsample, found.scores, found.pred_classes


def _write_onnx(graph: nn.Module, example: tuple[Tensor], card: dict[str, Any], path: Path) -> None:
    try:
        import onnx
    except ImportError:
        raise UserError("the package onnx is not installed", remedy="pip install 'mhkd[onnx]'") from None
    names = ["boxes", "scores", "classes"]
    axes = {"image": {1: "height", 2: "width"}, **{name: {0: "found"} for name in names}}
    torch.onnx.export(
        graph,
        example,
        str(path),
        dynamo=False,
        opset_version=ONNX_OPSET,
        input_names=["image"],
        output_names=names,
        dynamic_axes=axes,
    )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {CARD_KEY: json.dumps(card)})
    onnx.save(model, str(path))
