"""One training step on a GPU in each precision: losses are finite, and the detector that comes out detects there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from mhkd.deploy.detector_file import load_detector
from mhkd.engine.train import run_training

PRECISIONS = {
    "fp32": ("MODEL.MHKD.PRECISION", "float32"),
    "bf16": ("MODEL.MHKD.PRECISION", "bfloat16"),
    "fp16": ("MODEL.MHKD.PRECISION", "float16"),
}
ON_GPU = ("MODEL.DEVICE", "cuda", "SOLVER.MAX_ITER")


@pytest.fixture(params=PRECISIONS)
def precision(request):
    if request.param == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bfloat16")
    return PRECISIONS[request.param]


def assert_is_trained(detector: Path) -> None:
    """Every loss that the run logged is finite, and the exported weights are, and detect on the GPU."""
    lines = [json.loads(line) for log in detector.parent.rglob("metrics.json") for line in log.read_text().splitlines()]
    losses = {name: value for line in lines for name, value in line.items() if "loss" in name}
    assert losses
    assert all(math.isfinite(value) for value in losses.values()), losses
    model = load_detector(detector, "cuda").model
    assert all(torch.isfinite(value).all() for value in model.state_dict().values() if value.is_floating_point())
    with torch.inference_mode():
        (found,) = model([{"image": torch.full((3, 64, 64), 200, dtype=torch.uint8)}])
    assert found["instances"].pred_boxes.tensor.is_cuda


def test_a_step_of_the_teacher(tiny_cfg, precision):
    assert_is_trained(run_training(tiny_cfg("teacher", *ON_GPU, 1, *precision)))


def test_an_iteration_of_each_phase_of_a_distiller(tiny_cfg, teacher, precision):
    start = ("MODEL.WEIGHTS", str(teacher), "MODEL.MHKD.TEACHER.WEIGHTS", str(teacher))
    assert_is_trained(run_training(tiny_cfg("distill", *ON_GPU, 4, *start, *precision)))
