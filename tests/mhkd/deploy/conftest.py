"""A real detector, and pictures for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mhkd.deploy.detector_file import Detector, load_detector


@pytest.fixture
def detector(checkpoint: Path) -> Detector:
    """That detector, in float32, Detectron2 as it is."""
    detector = load_detector(checkpoint)
    detector.model.precision = "float32"
    return detector


@pytest.fixture(scope="session")
def images() -> list[torch.Tensor]:
    """Three pictures of discs on noise, of three sizes: uint8 (3, h, w)."""
    pictures = []
    for index, (height, width) in enumerate(((64, 64), (48, 80), (80, 48))):
        generator = torch.Generator().manual_seed(index)
        picture = 200 + 20 * torch.randn(3, height, width, generator=generator)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        for cx, cy in ((20, 22), (35, 40)):
            picture[:, (x - cx) ** 2 + (y - cy) ** 2 < 80] = 90.0
        pictures.append(picture.clamp(0, 255).to(torch.uint8))
    return pictures
