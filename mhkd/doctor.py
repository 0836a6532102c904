"""What works on this machine, and what is missing for what: ``mhkd doctor``, which ``make setup`` ends with."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
import tempfile
import warnings
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from preprocess.base.errors import UserError
from preprocess.base.parallel import num_processors

AGAIN = "install again with: rm -rf .venv && make setup"
LEAST_FREE_GB = 5
"""Free space that a demo run and its checkpoints need."""


@dataclass(frozen=True)
class Part:
    """A part of the installation or the machine.

    ``check`` describes what works, and raises whatever it meets where it does not; without a part that is ``needed``
    nothing is searched or trained. ``purpose`` is what the part is for, ``remedy`` how to get it.
    """

    name: str
    check: Callable[[], str]
    purpose: str
    remedy: str = AGAIN
    needed: bool = False


@dataclass(frozen=True)
class Finding:
    """A part that was checked; ``reason`` says why it does not work, or is None, and ``text`` describes it."""

    part: Part
    text: str
    reason: str | None = None

    @property
    def is_fault(self) -> bool:
        return self.part.needed and self.reason is not None

    def __str__(self) -> str:
        if self.reason is None:
            return f"works    {self.part.name}: {self.text}"
        state = "broken " if self.is_fault else "missing"
        return f"{state}  {self.part.name}, for {self.part.purpose}: {self.reason} ({self.part.remedy})"


def examine() -> Iterator[Finding]:
    """Check each of ``PARTS`` in turn; one that does not work never hides the others."""
    for part in PARTS:
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # advice of libraries to their own developers
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield Finding(part, part.check())
        except Exception as error:  # a broken library may raise anything
            yield Finding(part, "", _reason(error))
        finally:
            logging.disable(level)


def check_python() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise UserError(f"{version} is not supported")
    return version


def check_slides() -> str:
    """Read a tiled TIFF by OpenSlide."""
    openslide = _import("openslide")
    _check_reading("slide.tif", {"compression": "jpeg"})
    return f"OpenSlide {openslide.__library_version__} reads SVS, NDPI, MRXS, SCN, BIF, VMS, DICOM and others"


def check_tiff() -> str:
    """Read an OME-TIFF by tifffile."""
    codecs = _import("imagecodecs")
    _check_reading("slide.ome.tif", {"compression": "jpeg2000", "metadata": {"axes": "YXS"}})
    return f"tifffile {metadata.version('tifffile')} and imagecodecs {codecs.__version__} read OME-TIFF and JPEG 2000"


def _check_reading(name: str, how: dict[str, Any]) -> None:
    tifffile, slides = _import("tifffile"), _import("preprocess.slides.slide")
    pixels = np.full((64, 48, 3), 200, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(16, 16), **how)
        reader = slides.open_reader(path)
        try:
            read = reader.read(0, 0, 0, reader.size)
        finally:
            reader.close()
    _require(read.shape == pixels.shape, "it reports a wrong slide size")
    _require(int(np.abs(read.astype(int) - pixels).max()) <= 2, "it reads wrong pixels")


def check_torch() -> str:
    torch = _import("torch", "2.11")
    product = torch.eye(2) @ torch.ones(2, 2)
    _require(product.sum().item() == 4, "it multiplies matrices wrongly")
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def check_torchvision() -> str:
    """Load torchvision's compiled operators, which works where it was built against this torch."""
    torch, torchvision = _import("torch", "2.11"), _import("torchvision", "0.26")
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    _require(kept.tolist() == [0, 2], "non-maximum suppression keeps the wrong boxes")
    return f"{torchvision.__version__}, its operators load"


def check_detectron2() -> str:
    """Build a small Faster R-CNN of Detectron2's model zoo and detect with it."""
    torch, zoo = _import("torch", "2.11"), _import("detectron2.model_zoo")
    config = zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", trained=False)
    config.MODEL.DEVICE = "cpu"
    config.MODEL.RESNETS.DEPTH, config.MODEL.RESNETS.RES2_OUT_CHANNELS, config.MODEL.ROI_BOX_HEAD.FC_DIM = 18, 64, 8
    model = _import("detectron2.modeling").build_model(config).eval()
    with torch.no_grad():
        (output,) = model([{"image": torch.zeros(3, 64, 64)}])
    _require(output["instances"].image_size == (64, 64), "the model returns another image's result")
    names = [name for name in metadata.packages_distributions().get("detectron2", []) if "detectron2" in name]
    return f"{metadata.version(names[0]) if names else 'of unknown version'}, a Faster R-CNN runs"


def check_model() -> str:
    registry = _import("mhkd.deploy.registry")
    registry.find_model(registry.BUNDLED)
    return registry.BUNDLED


def check_gpu() -> str:
    cuda = _import("torch").cuda
    found = [cuda.get_device_properties(number) for number in range(cuda.device_count() if cuda.is_available() else 0)]
    _require(bool(found), "torch sees none")
    return ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GB)" for gpu in found)


def check_bfloat16() -> str:
    device = "cuda" if _import("torch").cuda.is_available() else "cpu"
    _require(_import("mhkd.modeling.precision").bf16_is_native(device), f"this {device} does not compute it natively")
    return f"native on {device}"


def check_onnx() -> str:
    return _import("onnx").__version__


def check_onnxruntime() -> str:
    runtime = _import("onnxruntime")
    return f"{runtime.__version__}, {', '.join(runtime.get_available_providers())}"


def check_openvino() -> str:
    _import("onnx")
    openvino = _import("openvino")
    return f"{openvino.__version__}, {', '.join(openvino.Core().available_devices)}"


def check_ray() -> str:
    return _import("ray").__version__


def check_browser() -> str:
    try:
        return getattr(webbrowser.get(), "name", "there is one")
    except webbrowser.Error:
        raise UserError("none is found") from None


def check_space() -> str:
    """Free space where results and temporary files go by default."""
    places = (Path.cwd(), Path(tempfile.gettempdir()))
    free_gb = [shutil.disk_usage(place).free / 1e9 for place in places]
    text = ", ".join(f"{gb:.0f} GB in {place}" for place, gb in zip(places, free_gb, strict=True))
    _require(min(free_gb) >= LEAST_FREE_GB, text)
    return text


def check_processors() -> str:
    return f"{num_processors()} of {os.cpu_count()} can be used"


_WORK = "searching and training"
PARTS = (
    Part("Python", check_python, _WORK, "use Python 3.10 to 3.13: make setup PYTHON=python3.12", needed=True),
    Part("slides", check_slides, _WORK, needed=True),
    Part("TIFF", check_tiff, _WORK, needed=True),
    Part("torch", check_torch, _WORK, needed=True),
    Part("torchvision", check_torchvision, _WORK, needed=True),
    Part("Detectron2", check_detectron2, _WORK, needed=True),
    Part("bundled model", check_model, "searching without a model of your own"),
    Part("GPU", check_gpu, "speed", "the processor is used"),
    Part("bfloat16", check_bfloat16, "speed", "float32 is used"),
    Part("ONNX", check_onnx, "exporting to .onnx", "pip install 'mhkd[onnx]'"),
    Part("ONNX Runtime", check_onnxruntime, "searching with .onnx files", "pip install 'mhkd[onnx]'"),
    Part("OpenVINO", check_openvino, "--backend openvino", "pip install 'mhkd[openvino]'"),
    Part("Ray", check_ray, "--engine ray", "pip install 'mhkd[ray]'"),
    Part("browser", check_browser, "mhkd view", "open the address that it prints elsewhere"),
    Part("disk", check_space, f"training, {LEAST_FREE_GB} GB", "free some space, or set TMPDIR"),
    Part("processors", check_processors, "speed"),
)


def _require(condition: bool, fault: str) -> None:
    if not condition:
        raise RuntimeError(fault)


def _import(name: str, version: str = "") -> Any:
    module: ModuleType = importlib.import_module(name)
    installed = getattr(module, "__version__", "")
    if not installed.startswith(version):
        raise UserError(f"{installed} is installed, and {version} is needed")
    return module


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "pkg_resources":
        return "Detectron2 needs pkg_resources, which setuptools 82 dropped"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    told = " ".join(str(error).split())
    return told if isinstance(error, UserError | RuntimeError) and told else f"{type(error).__name__}: {told}"
