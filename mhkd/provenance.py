"""What made a model or a prediction: the preprocessor's record plus the versions of the deep-learning libraries."""

from __future__ import annotations

from typing import Any

import detectron2
import timm
import torch
import torchvision

from preprocess.base import provenance


def software() -> dict[str, Any]:
    """The git commit (None outside the project's own repository) and the versions of the libraries in use."""
    record = provenance.software()
    libraries = (torch, torchvision, detectron2, timm)
    return {**record, "versions": {**record["versions"], **{m.__name__: str(m.__version__) for m in libraries}}}
