from __future__ import annotations

from pathlib import Path

import pytest

from mhkd.deploy.model_arguments import name_models
from preprocess.base.errors import UserError


def test_models_have_the_names_that_are_given_or_those_of_their_files():
    assert name_models(["a=run/x.pth", "step3/detector.pth", "b.onnx"]) == {
        "a": Path("run/x.pth"),
        "step3/detector": Path("step3/detector.pth"),
        "b": Path("b.onnx"),
    }
    with pytest.raises(UserError, match="two models are named 'a'"):
        name_models(["a=x", "a=y"])
