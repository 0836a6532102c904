from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest

from mhkd import launch
from preprocess.base.errors import UserError


@pytest.fixture
def tool(monkeypatch):
    """Let the installed tool be one whose ``main`` does what it is given."""

    def install(main):
        monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(main=main))

    return install


def fail(error: Exception):
    raise error


def test_the_exit_status_is_the_tools_own(tool):
    tool(lambda: 3)
    with pytest.raises(SystemExit, match="3"):
        launch.tiles()


def test_an_error_that_a_user_can_mend_is_one_line(tool, capsys):
    tool(lambda: fail(UserError("cannot be read", path="a.svs", remedy="copy it again")))
    with pytest.raises(SystemExit, match="1"):
        launch.infer()
    assert capsys.readouterr().err == "error: a.svs: cannot be read (copy it again)\n"


def test_missing_detectron2_is_explained(monkeypatch, capsys):
    missing = ModuleNotFoundError("No module named 'detectron2'", name="detectron2.config")
    monkeypatch.setattr(importlib, "import_module", lambda name: fail(missing))
    with pytest.raises(SystemExit, match="1"):
        launch.train()
    assert "make setup" in capsys.readouterr().err


def test_any_other_missing_module_is_a_fault_of_ours(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: fail(ModuleNotFoundError(name="mhkd.gone")))
    with pytest.raises(ModuleNotFoundError):
        launch.train()
