"""RoIAlign is torchvision's."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ROIAlign

from mhkd.modeling.roi_align import ChannelsLastROIAlign


def rois(seed: int, count: int = 60) -> torch.Tensor:
    """Boxes on two images of 96 x 128 px, of any size and shape; some reach over the border, or lie outside."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([160.0, 128.0]) - 16
    size = 1 + 100 * torch.rand(count, 2, generator=generator) ** 2
    image = torch.randint(0, 2, (count, 1), generator=generator)
    return torch.cat((image, corner, corner + size), dim=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("bins", "samples", "aligned"), [(7, 0, True), ((3, 5), 2, True), (4, 0, False)])
def test_the_bins_are_torchvisions(seed, dtype, bins, samples, aligned):
    features = torch.randn(2, 6, 24, 32, generator=torch.Generator().manual_seed(seed)).to(dtype)
    settings = (bins if isinstance(bins, tuple) else (bins, bins), 0.25, samples, aligned)
    align = ROIAlign(*settings)
    expected = align(features.float(), rois(seed)).to(dtype)
    found = ChannelsLastROIAlign(*settings)(features.contiguous(memory_format=torch.channels_last), rois(seed))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0 if dtype == torch.float32 else 2**-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_is_torchvisions(dtype):
    values = torch.randn(2, 6, 24, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    boxes = rois(0)
    weights = torch.randn(len(boxes), 6, 7, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    gradients = []
    for kind, features in ((ROIAlign, values.float()), (ChannelsLastROIAlign, values.clone())):
        pool = kind((7, 7), 0.25, 0, True)
        features.requires_grad_(True)
        (pool(features, boxes).to(dtype) * weights).sum().backward()
        gradients.append(features.grad.float())
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=0 if dtype == torch.float32 else 2**-7)


def test_without_rois_and_without_area_there_is_nothing():
    align = ChannelsLastROIAlign((7, 7), 0.25, 0, True)
    features = torch.ones(1, 6, 24, 32)
    assert align(features, torch.zeros(0, 5)).shape == (0, 6, 7, 7)
    assert not align(features, torch.tensor([[0.0, 8.0, 8.0, 8.0, 40.0]])).any()


def test_a_traced_graph_has_the_operation_that_other_programs_know():
    align = ChannelsLastROIAlign((7, 7), 0.25, 0, True)
    graph = torch.jit.trace(align, (torch.ones(2, 6, 24, 32), rois(0)), check_trace=False).graph
    assert "torchvision::roi_align" in str(graph)


def test_rois_stay_exact_where_features_are_bfloat16():
    """Of the pixels 513 to 516 three are before an edge at 516; rounded to bfloat16, 512 to 515, all of them."""
    align = ChannelsLastROIAlign((1, 1), 1.0, 0, True)
    edge = (torch.arange(640) < 516).bfloat16().expand(1, 1, 8, 640)
    roi = torch.tensor([[0.0, 513.0, 2.0, 517.0, 6.0]])
    traced = torch.jit.trace(align, (edge, roi), check_trace=False)
    assert align(edge, roi).item() == traced(edge, roi).item() == 0.75
    assert align(edge, roi).dtype == traced(edge, roi).dtype == torch.bfloat16
