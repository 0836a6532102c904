from __future__ import annotations

import importlib
import re

import pytest

from mhkd import doctor
from tools.doctor import main


def lines(shown: str) -> dict[str, str]:
    """The lines of the doctor by the name of their part."""
    return {re.split("[:,]", line[9:])[0]: line for line in shown.splitlines()}


@pytest.fixture
def broken(monkeypatch):
    """Let the import of a module end with an error."""
    real = importlib.import_module

    def install(module: str, error: Exception) -> None:
        def load(name: str):
            if name == module:
                raise error
            return real(name)

        monkeypatch.setattr(doctor.importlib, "import_module", load)

    return install


def test_this_environment_works(capsys):
    assert main([]) == 0
    shown = lines(capsys.readouterr().out)
    assert list(shown) == [part.name for part in doctor.PARTS]
    needed = [part.name for part in doctor.PARTS if part.needed]
    assert [shown[name].split()[0] for name in (*needed, "bundled model")] == ["works"] * (len(needed) + 1)


@pytest.mark.parametrize(
    ("module", "error", "part", "message"),
    [
        ("torchvision", RuntimeError("operator torchvision::nms\n not there"), "torchvision", "torchvision::nms not"),
        ("detectron2.model_zoo", ModuleNotFoundError(name="pkg_resources"), "Detectron2", "setuptools 82"),
        ("detectron2.model_zoo", ModuleNotFoundError(name="detectron2"), "Detectron2", "detectron2 is not installed"),
        ("openslide", OSError("libopenslide.so.1: cannot open"), "slides", "libopenslide"),
    ],
)
def test_a_broken_part_is_named_with_the_remedy_and_hides_no_other(broken, capsys, module, error, part, message):
    broken(module, error)
    assert main([]) == 1
    shown = lines(capsys.readouterr().out)
    assert shown[part].startswith("broken")
    assert message in shown[part]
    assert "make setup" in shown[part]
    assert shown["disk"].startswith(("works", "missing"))


def test_what_is_missing_says_for_what_and_is_no_fault(broken, capsys):
    broken("ray", ModuleNotFoundError(name="ray"))
    assert main([]) == 0
    assert "missing  Ray, for --engine ray: ray is not installed (pip install 'mhkd[ray]')" in capsys.readouterr().out


def test_a_torch_of_another_version_is_a_fault(monkeypatch, capsys):
    monkeypatch.setattr(importlib.import_module("torch"), "__version__", "2.13.0+cpu")
    assert main([]) == 1
    assert "2.13.0+cpu is installed, and 2.11 is needed" in lines(capsys.readouterr().out)["torch"]


def test_an_unsupported_python_is_a_fault(monkeypatch, capsys):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 14, 0))
    assert main([]) == 1
    assert "3.14.0 is not supported (use Python 3.10 to 3.13" in capsys.readouterr().out
