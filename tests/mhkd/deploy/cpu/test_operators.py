from __future__ import annotations

import pytest
import torch

from mhkd.deploy.cpu.operators import SWITCH, use_cpu_operators
from mhkd.modeling.backbones import TimmBackbone


def test_depthwise_layers_run_in_float32_where_they_learn_and_in_bfloat16_elsewhere() -> None:
    backbone = TimmBackbone("tf_efficientnet_lite0", freeze_at=2)
    use_cpu_operators(backbone, "cpu")
    seen: dict[str, list[torch.dtype]] = {"blocks.0.0": [], "blocks.6.0": []}
    for block, dtypes in seen.items():
        layer = backbone.network.get_submodule(f"{block}.conv_dw")
        layer.register_forward_hook(lambda module, inputs, output, dtypes=dtypes: dtypes.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        backbone.train()(torch.zeros(1, 3, 32, 32))
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, 3, 32, 32))
    assert seen["blocks.0.0"] == [torch.bfloat16, torch.bfloat16]  # of a frozen stage
    assert seen["blocks.6.0"] == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize(("device", "switch"), [("cuda", "on"), ("cpu", "off")])
def test_elsewhere_and_switched_off_the_operators_are_those_of_the_libraries(
    device: str, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, switch)
    backbone = TimmBackbone("resnet18")
    kinds = [type(module) for module in backbone.modules()]
    use_cpu_operators(backbone, device)
    assert [type(module) for module in backbone.modules()] == kinds
