"""What only a GPU can show: `make test-gpu`. Elsewhere these tests are skipped, and say why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.mhkd.conftest import teacher, tile_pairs, tiny_cfg

__all__ = ["teacher", "tile_pairs", "tiny_cfg"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder; the hook is given those of all folders."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.gpu)
            item.add_marker(
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and torch sees none")
            )


@pytest.fixture
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 proper: by default a GPU rounds their inputs to the ten bits of TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def needs_bf16() -> None:
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bfloat16")
