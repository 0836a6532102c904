from __future__ import annotations

import pytest
import torch

from mhkd.modeling import precision


@pytest.mark.parametrize(("amx", "avx512", "native"), [(True, False, True), (False, True, True), (False, False, False)])
def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, native: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert precision.resolve_bf16("auto", "cpu") is native
    assert precision.resolve_bf16("on", "cpu") is True
    assert precision.resolve_bf16("off", "cpu") is False


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="yes"):
        precision.resolve_bf16("yes", "cpu")


def test_autocast_computes_in_bfloat16_only_where_enabled() -> None:
    a = torch.ones(2, 2)
    for enabled, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with precision.autocast(torch.device("cpu"), enabled):
            assert (a @ a).dtype == dtype
