"""torchvision's Faster R-CNN trained on the student's tiles: as it comes, and with our backbone's ImageNet weights."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from mhkd.data.datasets import tile_dicts
from mhkd.data.mapper import TilePairMapper
from mhkd.data.stream import PositionSampler, TileStream, build_stream_loader
from mhkd.modeling.backbones import TimmBackbone
from mhkd.weights import write_checkpoint
from preprocess.base.console import progress
from preprocess.tiles.manifest import Manifest
from tools.benchmarks.contestants.peer import Peer, as_output

SCRATCH, IMAGENET = "torchvision-mobilenet", "torchvision-lite0"
BATCH, LEARNING_RATE, WEIGHT_DECAY, COLOUR_JITTER = 4, 0.001, 0.0001, 0.15
"""Those of configs/demo, with its warm-up over a tenth and its decays at 70 and 90 % of the iterations."""


class Lite0Pyramid(nn.Module):
    """EfficientNet-Lite0 with packaged ImageNet weights below torchvision's pyramid of five levels, strides 4 to 64."""

    out_channels = 96

    def __init__(self) -> None:
        super().__init__()
        self.body = TimmBackbone("tf_efficientnet_lite0", pretrained="packaged")
        channels = [spec.channels for spec in self.body.output_shape().values()]
        self.fpn = FeaturePyramidNetwork(channels, self.out_channels, extra_blocks=LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        # Named as torchvision's RoI pooling looks for them.
        return self.fpn(OrderedDict(zip("0123", self.body(images).values(), strict=True)))


def train(
    kind: str, manifest: Manifest, iterations: int, seed: int, folder: Path, budget_s: float | None = None
) -> Peer:
    """``kind``, SCRATCH (320 px, torchvision's choice) or IMAGENET (the teacher's tile size), with ``iterations``.

    budget_s: processor seconds that it gets instead, however many iterations that makes.
    """
    torch.manual_seed(seed)
    network, start = _build(kind, len(manifest.labels), int(manifest.tiles["teacher_width"].iloc[0]))
    peer = Peer.of(manifest, model=Predict(network), start=start, path=folder / "model.pth")
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    mapper = TilePairMapper(with_teacher=False, color_jitter=COLOUR_JITTER)
    stream = TileStream(tile_dicts(manifest, "train", "student"), mapper, seed)
    network.train()
    with peer.training(iterations):
        batches = iter(build_stream_loader(stream, PositionSampler(), BATCH, 0))
        total = iterations if budget_s is None else None
        shares = progress(_shares(iterations, budget_s), total=total, description=f"{kind}, seed {seed}")
        for done in shares:
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * _rate(done)
            images, targets = zip(*(_to_torchvision(tile) for tile in next(batches)), strict=True)
            loss = sum(network(list(images), list(targets)).values())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
    peer.iterations = shares.n
    write_checkpoint(peer.detector.path, network.state_dict())
    return peer


class Predict:
    """A torchvision detector as Detectron2's are called."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.network.eval()
        images = [x["image"].float() / 255 for x in batched_inputs]
        return [
            as_output(found["boxes"], found["scores"], found["labels"] - 1, tuple(image.shape[1:]))
            for found, image in zip(self.network(images), images, strict=True)
        ]


def _build(kind: str, num_classes: int, side: int) -> tuple[nn.Module, str]:
    if kind == SCRATCH:  # torchvision's own weights come by download only
        return fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=num_classes + 1
        ), "nothing"
    half = [0.5] * 3
    sizes = {"min_size": side, "max_size": side, "image_mean": half, "image_std": half}
    # The demo's; torchvision's 512 RoIs an image take most of an iteration, and a tile has two objects.
    sampled = {"box_batch_size_per_image": 64, "rpn_post_nms_top_n_train": 150, "rpn_post_nms_top_n_test": 60}
    return FasterRCNN(Lite0Pyramid(), num_classes + 1, **sizes, **sampled), "ImageNet"


def _shares(iterations: int, budget_s: float | None) -> Iterator[float]:
    """How much of the training is done at the start of each iteration, until all of it is."""
    if budget_s is None:
        yield from (i / iterations for i in range(iterations))
        return
    start = time.process_time()
    while (done := (time.process_time() - start) / budget_s) < 1.0:
        yield done


def _rate(done: float) -> float:
    """Share of the learning rate after ``done`` of the iterations."""
    return min(1.0, 0.001 + done / 0.1) * 0.1 ** ((done >= 0.7) + (done >= 0.9))


def _to_torchvision(tile: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    instances = tile["instances"]
    boxes, labels = instances.gt_boxes.tensor.float(), instances.gt_classes + 1
    return tile["image"].float() / 255, {"boxes": boxes, "labels": labels}
