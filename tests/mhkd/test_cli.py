from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest

from mhkd import cli
from preprocess.base.console import command_parser
from preprocess.base.errors import UserError


@pytest.fixture
def start(monkeypatch):
    """Start the command with these arguments, whose tool is one with this ``main``."""

    def run(*arguments: str, main=None):
        if main is not None:
            monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(main=main))
        monkeypatch.setattr(sys, "argv", ["/somewhere/mhkd", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    return run


def fail(error: Exception):
    raise error


def test_the_exit_status_is_the_tools_own(start):
    assert start("tiles", main=lambda: 3) == 3


def test_the_tool_gets_the_arguments_and_is_called_as_it_was_started(start, capsys):
    def main():
        parser = command_parser("Detect.", "Examples:\n  mhkd infer a.svs")
        parser.add_argument("--seed", default=0, help="decides all")
        parser.add_argument("slide", nargs="+")
        assert parser.parse_args().slide == ["a.svs", "-b.svs"]
        parser.print_help()

    assert start("infer", "a.svs", "--version", main=main) == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --version (see mhkd infer --help)\n"
    assert start("infer", "a.svs", "--", "-b.svs", main=main) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: mhkd infer ")


def test_an_error_that_a_user_can_mend_is_one_line(start, capsys):
    error = UserError("cannot be read", path="a.svs", remedy="copy it again")
    assert start("infer", main=lambda: fail(error)) == 1
    assert capsys.readouterr().err == "error: a.svs: cannot be read (copy it again)\n"


def test_without_a_command_all_are_listed(start, capsys):
    assert start() == 0
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in cli.COMMANDS)


def test_an_unknown_command_is_refused_with_the_known_ones(start, capsys):
    assert start("infre", "a.svs") == 2
    assert "'infer'" in capsys.readouterr().err


def test_missing_detectron2_is_explained(start, monkeypatch, capsys):
    missing = ModuleNotFoundError("No module named 'detectron2'", name="detectron2.config")
    monkeypatch.setattr(importlib, "import_module", lambda name: fail(missing))
    assert start("train") == 1
    assert "make setup" in capsys.readouterr().err


def test_any_other_missing_module_is_a_fault_of_ours(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: fail(ModuleNotFoundError(name="mhkd.gone")))
    monkeypatch.setattr(sys, "argv", ["mhkd", "train"])
    with pytest.raises(ModuleNotFoundError):
        cli.main()
