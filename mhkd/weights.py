"""Files of weights in and out, without executing pickles and without silent mismatches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from torch import nn

from mhkd.config import mhkd_cfg
from preprocess.base.errors import UserError
from preprocess.base.files import atomic_path

FORMAT_VERSION = 1
# What a pickled state dict of numpy arrays (Detectron2's model zoo) may name; nothing else is looked up.
_SAFE_PICKLE_NAMES = {
    ("collections", "OrderedDict"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays in plain containers and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) not in _SAFE_PICKLE_NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a ``.pth`` or a model-zoo ``.pkl`` file; code inside it is never run.

    Raises:
        UserError: missing file, damaged file, or one that holds more than arrays and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("checkpoint not found", path=path)
    try:
        if path.suffix == ".pkl":
            with path.open("rb") as stream:
                loaded = _ArrayUnpickler(stream, encoding="latin1").load()
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle make the unpickler fail in any way
        reason = str(error).split(". ")[0].split("\n")[0][:160]
        raise UserError(
            f"not a readable checkpoint of plain weights: {reason}",
            path=path,
            remedy="use a file from a source you trust",
        ) from None
    if not isinstance(loaded, dict):
        raise UserError("not a checkpoint: it holds no dict", path=path)
    return loaded


def write_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values as one file, atomically; the same content gives the same bytes.

    Raises OSError where the disk does not take them.
    """
    # Given a path, torch would write its name into the file.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # after a failed write torch ends its archive, and fails at that too
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_export(path: str | Path) -> dict[str, Any]:
    """The content of an exported detector. Raises UserError where the file is none, or one of another format."""
    content = read_checkpoint(path)
    missing = {"format", "model", "config", "input_mpp", "tile_px", "class_names"} - content.keys()
    if missing:
        raise UserError("not an exported detector", path=path, remedy="give the detector.pth that a training run wrote")
    if content["format"] != FORMAT_VERSION:
        raise UserError(
            f"exported in format {content['format']}, this version reads {FORMAT_VERSION}",
            path=path,
            remedy="export it again with this version",
        )
    return content


def export_config(content: dict[str, Any], path: str | Path) -> CfgNode:
    """The configuration that builds the exported detector ``content``, read from ``path``.

    Raises:
        UserError: what builds it has keys that this version does not know. Those that only say how it was trained may
            be of another version.
    """
    cfg = mhkd_cfg()
    stored: dict[str, Any] = yaml.safe_load(content["config"])
    for section in ("DATASETS", "DATALOADER", "SOLVER"):
        stored[section] = {key: value for key, value in stored.get(section, {}).items() if key in cfg[section]}
    try:
        cfg.merge_from_other_cfg(CfgNode(stored))
    except KeyError as error:
        raise UserError(
            f"it was exported by another version: {error.args[0]}", path=path, remedy="train or export it again"
        ) from None
    return cfg


def load_strictly(
    model: nn.Module, weights: dict[str, torch.Tensor], path: str | Path, may_be_missing: tuple[str, ...] = ()
) -> None:
    """Load ``weights``; every key must match in name and shape.

    Args:
        may_be_missing: prefixes of keys that may be absent from ``weights`` (an adapter that is new).

    Raises:
        UserError: with the first of the keys that do not fit.
    """
    own = model.state_dict()
    missing = [k for k in own if k not in weights and not k.startswith(may_be_missing or ("\0",))]
    unexpected = [k for k in weights if k not in own]
    shapes = [
        f"{k} {tuple(weights[k].shape)} not {tuple(own[k].shape)}"
        for k in weights
        if k in own and weights[k].shape != own[k].shape
    ]
    for problem, keys in (("lacks", missing), ("has unknown", unexpected), ("has other shapes:", shapes)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UserError(
                f"the weights do not fit the model: the file {problem} {', '.join(keys[:3])}{more}",
                path=path,
                remedy="use the config that the weights were trained with",
            )
    model.load_state_dict({**own, **weights})
