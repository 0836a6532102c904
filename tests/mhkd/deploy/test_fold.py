"""Folded and cast once, a detector detects what it detected before."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from mhkd.deploy.cpu.frozen_norm import FoldedConv, fold_frozen_norms
from mhkd.deploy.cpu.operators import SWITCH
from mhkd.deploy.detector_file import load_detector
from mhkd.deploy.fold import cast_weights, fold_batch_norms, fold_detector
from mhkd.deploy.parity import compare
from mhkd.modeling.precision import Float32Conv2d
from mhkd.structures import SlideDetections
from tests.detectors import write_detector

KINDS = {
    "two stages": ("demo/baseline_strict", ("MODEL.MHKD.BFA.ENABLED", True)),
    "ResNet": ("demo/baseline_strict", ("MODEL.TIMM.NAME", "resnet18")),
    "RetinaNet": ("retinanet/baseline_strict", ()),
    "FCOS": ("fcos/baseline_strict", ()),
}


def as_on_a_gpu(path, monkeypatch):
    """The detector as a GPU gets it, on the CPU: without the operators that are there for CPUs."""
    monkeypatch.setenv(SWITCH, "off")
    return load_detector(path)


def detections(model, images):
    """What ``model`` detects in ``images``, boxes in their pixels."""
    with torch.inference_mode():
        found = [model([{"image": image}])[0]["instances"].get_fields() for image in images]
    boxes, scores = (
        torch.cat([getattr(one[name], "tensor", one[name]) for one in found]).double().numpy()
        for name in ("pred_boxes", "scores")
    )
    return SlideDetections(boxes, scores, np.zeros(len(scores)), ("glomerulus",))


def norms_of(model):
    return [m for m in model.modules() if isinstance(m, (_BatchNorm, FrozenBatchNorm2d))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folded_detector_detects_the_same(kind, images, tmp_path, monkeypatch):
    config, overrides = KINDS[kind]
    path = write_detector(tmp_path / "detector.pth", "MODEL.MHKD.PRECISION", "float32", *overrides, config=config)
    model = as_on_a_gpu(path, monkeypatch).model
    expected = detections(model, images)
    assert norms_of(model.backbone)
    assert fold_detector(model, dtype=torch.float32)
    assert not norms_of(model.backbone)
    parity = compare([(expected, detections(model, images))])
    assert parity.matched
    assert parity.within(0.01, 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_converted_to_bfloat16_once_and_cost_no_more_precision_than_autocast_does(
    kind, images, tmp_path, monkeypatch
):
    config, overrides = KINDS[kind]
    path = write_detector(tmp_path / "detector.pth", "MODEL.MHKD.PRECISION", "bfloat16", *overrides, config=config)
    folded, autocast, exact = (as_on_a_gpu(path, monkeypatch).model for _ in range(3))
    exact.precision = "float32"
    fold_detector(folded, dtype=torch.bfloat16)
    convolutions = [m for m in folded.backbone.modules() if isinstance(m, nn.Conv2d)]
    assert {p.dtype for m in convolutions for p in m.parameters(recurse=False)} == {torch.bfloat16}
    assert count_conversions(autocast, images[0]) > 0
    assert count_conversions(folded, images[0]) == 0
    errors = [
        max(
            (features[level] - values).norm() / values.norm() for level, values in features_of(exact, images[0]).items()
        )
        for features in (features_of(model, images[0]) for model in (folded, autocast))
    ]
    assert 0 < errors[0] < 1.25 * errors[1]


def features_of(model, image):
    with torch.inference_mode(), model.autocast():
        features = model.features(model.preprocess_image([{"image": image}]))
    return {level: values.float() for level, values in features.items()}


def count_conversions(model, image):
    """How many weights of convolutions and matrices are converted to bfloat16 while ``model`` runs once."""
    weights = {
        p.data_ptr() for m in model.modules() if type(m) in (nn.Conv2d, Conv2d, nn.Linear) for p in m.parameters()
    }

    class Watch(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default and args[0].data_ptr() in weights:
                self.count += 1
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Watch() as watch:
        model([{"image": image}])
    return watch.count


def test_what_is_no_detector_of_detectron2_is_left_as_it_is():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    assert not fold_detector(network, dtype=torch.bfloat16)
    assert network[0].weight.dtype == torch.float32
    assert isinstance(network[1], nn.BatchNorm2d)


def test_a_layer_of_another_kind_keeps_its_precision():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), Float32Conv2d(3, 3, 1), nn.GroupNorm(1, 3))
    assert cast_weights(network, torch.bfloat16) == 1
    assert [layer.weight.dtype for layer in network] == [torch.bfloat16, torch.float32, torch.float32]


class Small(nn.Module):
    """A convolution and a BatchNorm of torch's, one that Detectron2 holds, and one that follows no convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.held = Conv2d(8, 8, 3, bias=False, norm=FrozenBatchNorm2d(8))
        self.alone = nn.BatchNorm2d(8)
        for norm in (self.norm, self.held.norm, self.alone):
            norm.running_mean.copy_(torch.randn(8))
            norm.running_var.copy_(1 + torch.rand(8))

    def forward(self, x):
        return self.alone(self.held(self.norm(self.conv(x)).relu()).relu())


def test_batch_norms_are_folded_where_a_convolution_feeds_them():
    torch.manual_seed(0)
    network = Small().eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = network(x)
        assert fold_batch_norms(network) == 2
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)
    assert network.held.norm is None
    assert isinstance(network.alone, nn.BatchNorm2d)


class Shared(nn.Module):
    """One convolution that runs twice, each time with a norm of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.one, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.one.running_mean.fill_(1.0)
        self.other.running_mean.fill_(-1.0)

    def forward(self, x):
        return self.one(self.conv(x)) + self.other(self.conv(x.flip(1)))


def test_a_convolution_with_two_norms_keeps_them():
    torch.manual_seed(0)
    network = Shared().eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = network(x)
        assert fold_batch_norms(network) == 0
        assert torch.equal(network(x), expected)


def test_kernels_that_are_folded_anew_for_each_image_are_frozen(detector):
    backbone = copy.deepcopy(detector.model.backbone)
    fold_frozen_norms(backbone.bottom_up.network)  # for a CPU it is folded already
    convs = [m for m in backbone.modules() if isinstance(m, FoldedConv)]
    kernels = [conv.kernel()[0].detach() for conv in convs]
    fold_batch_norms(backbone)
    assert convs
    assert all(torch.equal(conv.weight, kernel) for conv, kernel in zip(convs, kernels, strict=True))
