from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mhkd.deploy.cpu.frozen_norm import FoldedConv, FoldedNorm, fold_frozen_norms


def frozen(name: str) -> nn.Module:
    """A network with statistics that are not those of a fresh one."""
    torch.manual_seed(0)
    network = timm.create_model(name, features_only=True).double().eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.requires_grad_(False)
            for values, low in ((module.running_mean, -0.2), (module.running_var, 0.5), (module.weight, 0.7)):
                values.uniform_(low, low + 0.6)
            module.bias.uniform_(-0.1, 0.1)
    return network


def outputs_and_gradients(network: nn.Module) -> list[torch.Tensor]:
    features = network(torch.linspace(-1, 1, 2 * 3 * 32 * 32).double().view(2, 3, 32, 32).sin())
    sum(f.square().mean() for f in features).backward()
    return [*features, *(p.grad for p in network.parameters() if p.requires_grad)]


# With SAME padding and activations inside the norms; plain; with norms before convolutions, which do not fold;
# with none at all, but depthwise convolutions, which take the same form.
@pytest.mark.parametrize(
    ("name", "folded", "left"),
    [("tf_efficientnet_lite0", 48, 0), ("resnet18", 20, 0), ("resnetv2_18", 8, 8), ("convnext_atto", 12, 0)],
)
def test_a_folded_network_computes_the_same_and_keeps_its_names(name: str, folded: int, left: int) -> None:
    network = frozen(name)
    expected, names = outputs_and_gradients(network), list(network.state_dict())
    network.zero_grad()
    fold_frozen_norms(network)
    assert sum(isinstance(m, FoldedConv) for m in network.modules()) == folded
    assert sum(isinstance(m, _BatchNorm) for m in network.modules()) == left
    assert list(network.state_dict()) == names
    for found, before in zip(outputs_and_gradients(network), expected, strict=True):
        torch.testing.assert_close(found, before, rtol=1e-9, atol=1e-12)


def test_a_copy_folds_its_own_statistics() -> None:
    """An average of the weights is a deep copy, and a checkpoint is loaded into a network that is folded already."""
    network = frozen("resnet18")
    fold_frozen_norms(network)
    other = copy.deepcopy(network)
    image = torch.ones(1, 3, 32, 32).double()
    before = network(image)[0]
    changed = {k: v + 0.5 if k.endswith("running_mean") else v for k, v in other.state_dict().items()}
    other.load_state_dict(changed)
    assert torch.equal(network(image)[0], before)
    assert not torch.allclose(other(image)[0], before)


def test_a_norm_that_shares_its_input_is_left_alone() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            features = self.conv(image)
            return features + self.norm(features)

    network = Forked().eval()
    fold_frozen_norms(network)
    assert not any(isinstance(m, (FoldedConv, FoldedNorm)) for m in network.modules())


def test_a_frozen_network_rounds_its_kernels_once() -> None:
    """Weights in bfloat16 are the nearest to the folded ones, not a product of rounded numbers."""
    network = frozen("resnet18").float()
    fold_frozen_norms(network)
    image = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32).sin()
    convs = [m for m in network.modules() if isinstance(m, FoldedConv)]
    expected, kernels = network(image), [conv.kernel()[0].detach() for conv in convs]
    for conv in convs:
        conv.freeze_kernel()
    for found, before in zip(network(image), expected, strict=True):
        torch.testing.assert_close(found, before, rtol=0, atol=0)
    network.bfloat16()
    assert all(torch.equal(conv.kernel()[0], kernel.bfloat16()) for conv, kernel in zip(convs, kernels, strict=True))
