"""The operators of this room are tested themselves, whatever the switch says for everything else."""

from __future__ import annotations

import pytest

from mhkd.deploy.cpu.operators import SWITCH


@pytest.fixture(autouse=True)
def _switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
