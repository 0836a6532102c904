"""Pooling is Detectron2's, with RoIs as they are."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import Tensor, nn

from mhkd.deploy.cpu.roi_pooling import ChannelsLastROIPooler, pool_channels_last

SIDES = (128, 96)  # of the images, in pixels


def poolers(
    bins: int | tuple[int, int] = 7, samples: int = 0, kind: str = "ROIAlignV2"
) -> tuple[ROIPooler, ChannelsLastROIPooler]:
    """Detectron2's, of three levels, and ours in its place."""
    before = nn.Sequential(ROIPooler(bins, [1 / 4, 1 / 8, 1 / 16], samples, kind, 32, 3))
    after = nn.Sequential(before[0])
    pool_channels_last(after)
    assert type(after[0]) is ChannelsLastROIPooler
    return before[0], after[0]


def pyramid(seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, 6, SIDES[1] // s, SIDES[0] // s, generator=generator) for s in (4, 8, 16)]
    return [values.to(dtype).contiguous(memory_format=torch.channels_last) for values in maps]


def boxes(seed: int, count: int = 30) -> list[Boxes]:
    """On two images; of any size and shape; some reach over the border, or lie outside."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, count, 2, generator=generator) * torch.tensor([160.0, 128.0]) - 16
    size = 1 + 100 * torch.rand(2, count, 2, generator=generator) ** 2
    return [Boxes(found) for found in torch.cat((corner, corner + size), dim=2)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("bins", "samples", "kind"), [(7, 0, "ROIAlignV2"), (7, 2, "ROIAlignV2"), (4, 0, "ROIAlign")])
def test_the_bins_are_detectron2s(seed, dtype, bins, samples, kind):
    before, after = poolers(bins, samples, kind)
    maps = pyramid(seed, dtype)
    expected = before([values.float() for values in maps], boxes(seed)).to(dtype)
    found = after(maps, boxes(seed))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0 if dtype == torch.float32 else 2**-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("samples", [0, 2])
def test_one_level_and_bins_that_are_not_square(seed, dtype, samples):
    """Detectron2's own fails on the latter where there are several levels."""
    before = ROIPooler((3, 5), [1 / 4], samples, "ROIAlignV2")
    after = nn.Sequential(before)
    pool_channels_last(after)
    maps = pyramid(seed, dtype)[:1]
    expected = before([maps[0].float()], boxes(seed)).to(dtype)
    found = after[0](maps, boxes(seed))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0 if dtype == torch.float32 else 2**-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_is_detectron2s(dtype):
    before, after = poolers()
    weights = torch.randn(60, 6, 7, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    gradients = []
    for pool, maps in ((before, [values.float() for values in pyramid(0, dtype)]), (after, pyramid(0, dtype))):
        leaves = [values.clone().requires_grad_(True) for values in maps]
        (pool(leaves, boxes(0)).to(dtype) * weights).sum().backward()
        gradients.append([leaf.grad.float() for leaf in leaves])
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0 if dtype == torch.float32 else 2**-7)


def test_without_rois_and_without_area_there_is_nothing():
    _, pool = poolers()
    assert pool(pyramid(0), [Boxes(torch.zeros(0, 4))] * 2).shape == (0, 6, 7, 7)
    flat = Boxes(torch.tensor([[8.0, 8.0, 8.0, 40.0]]))
    whole = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    found = pool(pyramid(0), [flat, whole])
    assert not found[0].any()
    assert found[1].all()


def test_other_pooling_stays_as_it_is():
    model = nn.Sequential(ROIPooler(7, [1 / 4], 0, "ROIPool"), nn.ReLU())
    pool_channels_last(model)
    assert type(model[0]) is ROIPooler


def test_a_traced_graph_has_the_operation_that_other_programs_know():
    _, pool = poolers()

    class Pool(nn.Module):
        def forward(self, a: Tensor, b: Tensor, c: Tensor, found: Tensor) -> Tensor:
            return pool([a, b, c], [Boxes(found), Boxes(found)])

    graph = torch.jit.trace(Pool(), (*pyramid(0), boxes(0)[0].tensor), check_trace=False).graph
    assert "torchvision::roi_align" in str(graph)


def test_rois_stay_exact_where_features_are_bfloat16():
    """Of the pixels 513 to 516 three are before an edge at 516; rounded to bfloat16, 512 to 515, all of them."""
    pool = nn.Sequential(ROIPooler(1, [1.0], 0, "ROIAlignV2"))
    pool_channels_last(pool)
    edge = (torch.arange(640) < 516).bfloat16().expand(1, 1, 8, 640)
    roi = torch.tensor([[513.0, 2.0, 517.0, 6.0]])

    class Pool(nn.Module):
        def forward(self, features: Tensor, found: Tensor) -> Tensor:
            return pool[0]([features], [Boxes(found)])

    traced = torch.jit.trace(Pool(), (edge, roi), check_trace=False)
    for found in (Pool()(edge, roi), traced(edge, roi)):
        assert found.dtype == torch.bfloat16
        assert found.item() == 0.75
