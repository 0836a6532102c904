from __future__ import annotations

import importlib

import pytest

from mhkd import verify
from preprocess.base.errors import UserError


def test_this_environment_works():
    parts = [line.split()[0] for line in verify.verify()]
    assert parts == ["python", "torch", "torchvision", "detectron2", "openslide"]


@pytest.mark.parametrize(
    ("module", "error", "check", "message"),
    [
        (
            "torchvision",
            RuntimeError("operator torchvision::nms does not exist"),
            "check_torchvision",
            "torchvision::nms",
        ),
        ("detectron2.model_zoo", ModuleNotFoundError(name="pkg_resources"), "check_detectron2", "setuptools 82"),
        ("detectron2.model_zoo", ModuleNotFoundError("No module named 'detectron2'"), "check_detectron2", "No module"),
        ("openslide", OSError("libopenslide.so.1: cannot open"), "check_openslide", "libopenslide"),
    ],
)
def test_a_broken_part_is_named_with_the_remedy(monkeypatch, module, error, check, message):
    def broken(name: str):
        if name == module:
            raise error
        return real(name)

    real = importlib.import_module
    monkeypatch.setattr(verify.importlib, "import_module", broken)
    with pytest.raises(UserError, match="make setup") as raised:
        list(verify.verify())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_torch_of_another_version_is_refused(monkeypatch):
    torch = importlib.import_module("torch")
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    with pytest.raises(UserError, match=r"torch 2\.13\.0\+cpu is installed, and 2\.11 is needed"):
        list(verify.verify())


def test_an_unsupported_python_is_refused(monkeypatch):
    monkeypatch.setattr(verify.sys, "version_info", (3, 14, 0))
    with pytest.raises(UserError, match=r"Python 3\.14\.0 is not supported"):
        list(verify.verify())
