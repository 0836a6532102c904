from __future__ import annotations

import pytest
import torch

from mhkd.losses.precision import full_precision


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_only_half_precision_is_widened(given: torch.dtype, wanted: torch.dtype) -> None:
    assert full_precision(torch.zeros(1, dtype=given)).dtype == wanted
