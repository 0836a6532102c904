"""Detectors as graphs without Python code, TorchScript and ONNX, run by torch, ONNX Runtime or OpenVINO.

A graph takes one image, uint8 RGB (3, h, w) of any size, and gives its boxes (N, 4) xyxy in pixels of that image,
scores (N,) and classes (N,). What a caller must know to feed it travels in the same file, as JSON.
"""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401  registers the operators that a graph may name
from detectron2.structures import Boxes, Instances
from torch import Tensor

from mhkd.deploy.detector import Detector
from preprocess.base.errors import UserError

EXPORT_VERSION = 1
CARD_KEY = "mhkd.json"
SUFFIXES = {".torchscript": "torch", ".onnx": "onnxruntime"}
"""File suffixes of exported detectors, and what runs them unless the caller says otherwise."""

Graph = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]

_FIELDS = ("input_mpp", "tile_px", "class_names", "score_thresh", "provenance", "source")
# TorchScript's own language could write files, or run code while it is loaded; detectors do neither.
_FORBIDDEN = re.compile(
    r"__setstate__|\b(?:torch|aten)\.(?:save|load|from_file|_save|_load)\b|(?<![\w.])ops\.(?!(?:torchvision|prim)\b)\w+"
)


def load_exported(path: Path, device: str = "cpu", backend: str = "auto") -> Detector:
    """The detector in a ``.torchscript`` or ``.onnx`` file; nothing in the file but its graph is run.

    Args:
        device: "cpu", or a GPU for TorchScript.
        backend: "auto", "torch" (TorchScript), "onnxruntime" or "openvino" (ONNX).

    Raises:
        UserError: the file is damaged or was not exported by mhkd, or the backend does not fit it or is not installed.
    """
    runners = {"torch": _torchscript} if path.suffix == ".torchscript" else _ONNX_RUNNERS
    name = SUFFIXES[path.suffix] if backend == "auto" else backend
    if name not in runners:
        raise UserError(
            f"the backend {name} does not run {path.suffix} files",
            path=path,
            remedy=f"give --backend {' or '.join(runners)}",
        )
    if name != "torch" and device != "cpu":
        raise UserError(f"the backend {name} runs on the CPU here", remedy="give --device cpu, or a .torchscript file")
    try:
        card, graph = runners[name](path, device)
        if card.get("format") != EXPORT_VERSION or not set(_FIELDS) <= card.keys():
            raise ValueError(f"its card has format {card.get('format')}")
    except UserError:
        raise
    except Exception as error:  # what a runtime raises over a damaged file is its own affair
        reason = str(error).split("\n")[0][:160] or type(error).__name__
        raise UserError(
            f"not a detector that mhkd exported: {reason}", path=path, remedy="export it again: mhkd export"
        ) from None
    values = {field: card[field] for field in ("input_mpp", "tile_px", "score_thresh")}
    values |= {"class_names": tuple(card["class_names"]), "provenance": card["provenance"] | {"source": card["source"]}}
    precision = "a precision of its own choice" if name == "openvino" else "float32"
    how = f"{name}, {torch.device(device).type}, {precision}"
    return Detector(partial(_detect, graph), path=path, device=device, computed_by=how, **values)


def _detect(graph: Graph, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As Detectron2's detectors: one image after another, since the graph takes one."""
    outputs = []
    for item in inputs:
        found = Instances(tuple(item["image"].shape[1:]))
        boxes, found.scores, found.pred_classes = graph(item["image"])
        found.pred_boxes = Boxes(boxes)
        outputs.append({"instances": found})
    return outputs


def _torchscript(path: Path, device: str) -> tuple[dict[str, Any], Graph]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            code = archive.read(name).decode("utf-8", "replace") if name.endswith(".py") else ""
            if found := _FORBIDDEN.search(code):
                raise UserError(
                    f"its code names {found[0]}, which no detector needs", path=path, remedy="do not use this file"
                )
    files = {CARD_KEY: ""}
    module = torch.jit.load(str(path), map_location=device, _extra_files=files).eval()
    return json.loads(files[CARD_KEY]), lambda image: module(image.to(device))


def _onnxruntime(path: Path, device: str) -> tuple[dict[str, Any], Graph]:
    runtime = _import("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    card = json.loads(session.get_modelmeta().custom_metadata_map[CARD_KEY])
    return card, lambda image: _tensors(session.run(None, {name: image.numpy()}))


def _openvino(path: Path, device: str) -> tuple[dict[str, Any], Graph]:
    openvino, onnx = _import("openvino", "openvino"), _import("onnx", "openvino")
    properties = onnx.load(str(path), load_external_data=False).metadata_props
    card = json.loads({item.key: item.value for item in properties}[CARD_KEY])
    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    return card, lambda image: _tensors(list(compiled(image.numpy()).values()))


_ONNX_RUNNERS = {"onnxruntime": _onnxruntime, "openvino": _openvino}


def _tensors(arrays: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    boxes, scores, classes = (torch.from_numpy(np.array(array)) for array in arrays)
    return boxes.reshape(-1, 4), scores, classes.long()


def _import(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed", remedy=f"pip install 'mhkd[{extra}]'") from None
