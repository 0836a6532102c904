"""A detector detects on a GPU what it detects on a CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mhkd.deploy.detector import detect
from mhkd.deploy.load import load_model
from mhkd.deploy.parity import compare
from mhkd.inference.predictor import SCORE_FLOOR
from preprocess.base.geometry import Region
from tests.blobs import draw
from tests.detectors import write_detector

CONFIGS = ("demo/baseline_strict", "retinanet/baseline_strict", "fcos/baseline_strict")
FRAME = Region(0, 0, 128, 128)


@pytest.fixture(scope="module", params=CONFIGS)
def path(request, tmp_path_factory):
    return write_detector(tmp_path_factory.mktemp("models") / "detector.pth", config=request.param)


@pytest.fixture(scope="module")
def tiles():
    """Four tiles of 128 px with discs: uint8 RGB (128, 128, 3)."""
    picture, corners = draw(), ((300, 250), (900, 300), (500, 800), (1250, 800))
    return [np.ascontiguousarray(picture[y : y + 512 : 4, x : x + 512 : 4]) for x, y in corners]


def parity_of(reference, other, tiles):
    pairs = [(detect(reference, [tile], [FRAME])[0], detect(other, [tile], [FRAME])[0]) for tile in tiles]
    return compare(pairs)


@pytest.mark.usefixtures("exact_float32")
@pytest.mark.parametrize("backend", ["torch", "eager"])
def test_float32_on_a_gpu_is_float32_on_a_cpu(path, tiles, backend):
    """Within 0.05 px and 1e-3 of the score: sums in another order through some fifty layers."""
    on_cpu = load_model(path, device="cpu", backend="eager", precision="float32")
    on_gpu = load_model(path, device="cuda", backend=backend, precision="float32")
    parity = parity_of(on_cpu, on_gpu, tiles)
    assert parity.matched
    assert parity.box_px <= 0.05
    assert parity.score <= 1e-3
    assert parity.unmatched_score <= SCORE_FLOOR + 1e-3


@pytest.mark.usefixtures("needs_bf16")
def test_on_a_gpu_no_norm_is_left_and_weights_are_stored_in_bfloat16(path):
    backbone = load_model(path, device="cuda", precision="bfloat16").model.backbone
    assert not [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert {p.dtype for m in convolutions for p in m.parameters(recurse=False)} == {torch.bfloat16}


@pytest.mark.usefixtures("exact_float32")
def test_a_batch_of_tiles_is_detected_as_the_tiles_one_by_one(path, tiles):
    detector = load_model(path, device="cuda", precision="float32")
    together = detect(detector, tiles, [FRAME] * len(tiles))
    alone = [detect(detector, [tile], [FRAME])[0] for tile in tiles]
    parity = compare(zip(alone, together, strict=True))
    assert parity.matched
    assert parity.box_px <= 0.05
    assert parity.score <= 1e-3
