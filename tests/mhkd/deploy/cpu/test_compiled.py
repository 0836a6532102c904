"""Frozen graphs find what the detector finds, whatever was before."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from mhkd.deploy.cpu.compiled import FrozenGraph, FrozenHead, freeze_convolutions
from mhkd.deploy.detector_file import load_detector
from mhkd.deploy.parity import compare
from mhkd.modeling.bfa import BFA
from mhkd.structures import SlideDetections
from tests.detectors import write_detector


def boxes_and_scores(model, images):
    with torch.inference_mode():
        found = [model([{"image": image}])[0]["instances"] for image in images]
    return torch.cat([f.pred_boxes.tensor for f in found]), torch.cat([f.scores for f in found])


def detections(model, images):
    boxes, scores = (x.double().numpy() for x in boxes_and_scores(model, images))
    return SlideDetections(boxes, scores, np.zeros(len(boxes)), ("glomerulus",))


def test_frozen_graphs_find_the_same(detector, images):
    boxes, scores = boxes_and_scores(detector.model, images)
    frozen = freeze_convolutions(detector.model, dtype=torch.float32)
    assert len(boxes)
    assert frozen.backbone is not detector.model.backbone
    for _ in range(2):  # the first call of a shape makes its graph
        found = boxes_and_scores(frozen, images)
        torch.testing.assert_close(found[0], boxes, atol=0.01, rtol=0)
        torch.testing.assert_close(found[1], scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes_and_scores(detector.model, images), (boxes, scores), atol=0, rtol=0)


@pytest.mark.parametrize("config", ["retinanet/baseline_strict", "fcos/baseline_strict"])
def test_one_stage_detectors_find_the_same(config, images, tmp_path):
    detector = load_detector(
        write_detector(tmp_path / "detector.pth", "MODEL.MHKD.PRECISION", "float32", config=config)
    )
    frozen = freeze_convolutions(detector.model, dtype=torch.float32)
    assert isinstance(frozen.head, FrozenHead)
    expected, found = (detections(model, images) for model in (detector.model, frozen))
    parity = compare([(expected, found)])  # some score the same, so that their order is anyone's
    assert parity.matched
    assert parity.within(0.01, 1e-4)
    assert len(boxes_and_scores(freeze_convolutions(detector.model, dtype=torch.bfloat16), images)[0])


def test_what_is_found_does_not_depend_on_what_came_before(detector, images):
    alone = boxes_and_scores(freeze_convolutions(detector.model, dtype=torch.bfloat16), images[:1])
    frozen = freeze_convolutions(detector.model, dtype=torch.bfloat16)
    boxes_and_scores(frozen, [*images, *images[::-1]])
    torch.testing.assert_close(boxes_and_scores(frozen, images[:1]), alone, atol=0, rtol=0)


def test_several_threads_find_what_one_finds(detector, images):
    """Also where they come to a new shape at the same time: only one of them may make its graph."""
    images = [images[0], images[0].flip(2), *(image[:, :96, :64] for image in images)]
    alone = freeze_convolutions(detector.model, dtype=torch.bfloat16)
    expected = [boxes_and_scores(alone, [image]) for image in images]
    shared = freeze_convolutions(detector.model, dtype=torch.bfloat16)
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        found = list(pool.map(lambda image: boxes_and_scores(shared, [image]), images * 4))
    for pair, again in zip(expected * 4, found, strict=True):
        torch.testing.assert_close(again, pair, atol=0, rtol=0)


def test_features_of_an_image_are_the_same_in_any_batch(detector, images):
    frozen = freeze_convolutions(detector.model, dtype=torch.bfloat16)
    batch = torch.stack([images[0], images[0].flip(2), images[0].flip(1)]).float() / 255 - 0.5
    with torch.inference_mode():
        together, alone = frozen.backbone(batch), frozen.backbone(batch[:1])
    for name, features in alone.items():
        scale = features.float().abs().max().item()
        torch.testing.assert_close(together[name][:1].float(), features.float(), atol=0.02 * scale, rtol=0)


def test_graphs_of_old_shapes_are_let_go():
    graph = FrozenGraph(nn.Conv2d(3, 4, 1), torch.float32)
    for side in range(8, 16):
        graph(torch.randn(1, 3, side, side))
    assert len(graph._graphs) == 4


@pytest.mark.parametrize("bf16", [False, True])
def test_bfa_can_be_fused(bf16):
    """Its activations write to their input, which oneDNN's graphs do not know."""
    torch.manual_seed(0)
    bfa = BFA(32, 16).eval()
    nn.init.normal_(bfa.residual[-1].weight)
    x = torch.randn(2, 32, 24, 24)
    with torch.inference_mode():
        expected = bfa(x)
        dtype = torch.bfloat16 if bf16 else torch.float32
        (found,) = FrozenGraph(_Tuple(copy.deepcopy(bfa)), dtype)(x)
    tolerance = 0.03 if bf16 else 1e-5
    torch.testing.assert_close(found.float(), expected, atol=tolerance * expected.abs().max().item(), rtol=0)


class _Tuple(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return (self.layer(x),)


def test_a_model_of_another_kind_is_left_as_it_is():
    def model(inputs):
        return inputs

    assert freeze_convolutions(model, dtype=torch.bfloat16) is model
