"""Do the heavy dependencies work, and work together? Asked once, after the installation."""

from __future__ import annotations

import importlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from preprocess.base.errors import UserError

REMEDY = "install again with: rm -rf .venv && make setup"


def verify() -> Iterator[str]:
    """Yield one line for each part that works.

    Raises
    ------
    UserError
        At the first part that does not, naming it, the cause and what to do.
    """
    for check in (check_python, check_torch, check_torchvision, check_detectron2, check_openslide):
        yield _explained(check)


def check_python() -> str:
    """The version of Python is one that the lock covers."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise UserError(
            f"Python {version} is not supported", remedy="use Python 3.10 to 3.13: make setup PYTHON=python3.12"
        )
    return f"python {version}"


def check_torch() -> str:
    """torch computes, and says whether it sees a GPU."""
    torch = _import("torch", "2.11")
    product = torch.eye(2) @ torch.ones(2, 2)
    _require(product.sum().item() == 4, "it multiplies matrices wrongly")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU, runs on the processor"
    return f"torch {torch.__version__} ({device})"


def check_torchvision() -> str:
    """torchvision's compiled operators load, so it was built against this torch."""
    torch, torchvision = _import("torch", "2.11"), _import("torchvision", "0.26")
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    _require(kept.tolist() == [0, 2], "non-maximum suppression keeps the wrong boxes")
    return f"torchvision {torchvision.__version__} (operators load)"


def check_detectron2() -> str:
    """Detectron2 builds a Faster R-CNN from its model zoo and detects with it."""
    torch, zoo = _import("torch", "2.11"), _import("detectron2.model_zoo")
    config = zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", trained=False)
    config.merge_from_list(
        [
            "MODEL.DEVICE",
            "cpu",
            "MODEL.RESNETS.DEPTH",
            18,
            "MODEL.RESNETS.RES2_OUT_CHANNELS",
            64,
            "MODEL.ROI_BOX_HEAD.FC_DIM",
            8,
        ]
    )
    model = _import("detectron2.modeling").build_model(config).eval()
    with torch.no_grad():
        (output,) = model([{"image": torch.zeros(3, 64, 64)}])
    _require(output["instances"].image_size == (64, 64), "the model returns another image's result")
    return f"detectron2 {_detectron2_version()} (Faster R-CNN runs)"


def check_openslide() -> str:
    """OpenSlide reads a tiled TIFF that tifffile wrote."""
    openslide, tifffile = _import("openslide"), _import("tifffile")
    pixels = np.full((64, 48, 3), 200, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(16, 16), compression="jpeg")
        with openslide.OpenSlide(path) as slide:
            _require(slide.dimensions == (48, 64), "it reports a wrong slide size")
            read = np.asarray(slide.read_region((0, 0), 0, (48, 64)))[..., :3]
    _require(int(np.abs(read.astype(int) - pixels).max()) <= 2, "it reads wrong pixels")
    return f"openslide {openslide.__library_version__} (reads a slide)"


def _require(condition: bool, fault: str) -> None:
    if not condition:
        raise RuntimeError(fault)


def _import(name: str, version: str = "") -> Any:
    module: ModuleType = importlib.import_module(name)
    installed = getattr(module, "__version__", "")
    if not installed.startswith(version):
        raise UserError(f"{name} {installed} is installed, and {version} is needed", remedy=REMEDY)
    return module


def _detectron2_version() -> str:
    names = [name for name in metadata.packages_distributions().get("detectron2", []) if "detectron2" in name]
    return metadata.version(names[0]) if names else "of unknown version"


def _explained(check: Callable[[], str]) -> str:
    """The line of ``check``; whatever it raises becomes one UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return check()
    except UserError:
        raise
    except Exception as error:  # a broken library may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == "pkg_resources":
            reason = "Detectron2 needs pkg_resources, which setuptools 82 dropped"
        else:
            reason = f"{check.__name__.removeprefix('check_')} does not work: {type(error).__name__}: {error}"
        raise UserError(reason, remedy=REMEDY) from error
