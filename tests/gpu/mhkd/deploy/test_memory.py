from __future__ import annotations

import pytest
import torch

from mhkd.deploy.memory import is_out_of_memory


def test_a_tensor_that_no_gpu_holds_is_out_of_memory_and_leaves_the_gpu_usable():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 46, dtype=torch.uint8, device="cuda")
    assert is_out_of_memory(raised.value)
    assert torch.ones(2, device="cuda").sum().item() == 2
