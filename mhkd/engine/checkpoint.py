"""Weights in and out, without executing pickles and without silent mismatches.

An exported detector (``detector.pth``) is a dict of tensors and plain values: the weights of one detector,
the configuration that builds it, and what a caller must know to feed it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from torch import nn

from mhkd.weights import FORMAT_VERSION, load_strictly, read_checkpoint, read_export, write_checkpoint
from preprocess.base.errors import UserError
from preprocess.base.files import write_text

logger = logging.getLogger(__name__)

TAG_FILE, BEST_FILE = "last_checkpoint", "model_best.pth"


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, but that no pickle is executed, and that the last checkpoint alone is kept."""

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, left_out: Collection[str] = (), **checkpointables: Any
    ) -> None:
        """
        Args:
            left_out: keys of the model's state that never change, and are not saved.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.left_out = frozenset(left_out)
        self._newest: str | None = None  # what get_checkpoint_file found, as it reads whole files

    def _load_file(self, filename: str) -> dict[str, Any]:
        loaded = read_checkpoint(filename)
        if Path(filename).suffix == ".pkl" and "__author__" not in loaded:
            return {"model": loaded, "__author__": "Caffe2", "matching_heuristics": True}
        return loaded if "model" in loaded else {"model": loaded}

    def _load_model(self, checkpoint: Any) -> Any:
        """Keeps what did not fit as ``incompatible``, which Detectron2 only logs."""
        self.incompatible = super()._load_model(checkpoint)
        self.incompatible.missing_keys[:] = sorted(set(self.incompatible.missing_keys) - self.left_out)
        return self.incompatible

    def save(self, name: str, **kwargs: Any) -> None:
        """Save atomically, so that an interrupted run never resumes from half a file; then drop the one before."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: item.state_dict() for key, item in self.checkpointables.items()}
        model = {key: value for key, value in self.model.state_dict().items() if key not in self.left_out}
        path = Path(self.save_dir) / f"{name}.pth"
        write_checkpoint(path, {"model": model, **states, **kwargs})
        self._newest = str(path)
        self.tag_last_checkpoint(path.name)
        for other in self._files():
            if other != path:
                other.unlink(missing_ok=True)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(Path(self.save_dir) / TAG_FILE, last_filename_basename)

    def has_checkpoint(self) -> bool:
        return bool(self.get_checkpoint_file())

    def get_checkpoint_file(self) -> str:
        """The newest checkpoint that can be read; "" where there is none.

        That is the tagged one. Where the tag is empty or leads nowhere, as a full disk or a copied folder leaves it,
        the others are looked at, newest first.
        """
        if self._newest is None:
            self._newest = self._find_newest()
        return self._newest

    def _find_newest(self) -> str:
        tag = Path(self.save_dir) / TAG_FILE
        if not tag.is_file():
            return ""
        tagged = tag.parent / Path(tag.read_text(encoding="utf-8").strip() or "none").name
        for path in sorted(self._files(), key=lambda path: (path == tagged, path.stat().st_mtime_ns), reverse=True):
            try:
                if "iteration" in read_checkpoint(path):
                    return str(path)
            except UserError as error:
                logger.warning("%s: left aside, %s", path, error.reason)
        logger.warning("%s: no checkpoint can be read, the training begins anew", tag.parent)
        return ""

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """As Detectron2's, but that a checkpoint of another model is refused.

        Raises:
            UserError: its keys or shapes are not those of the model.
        """
        loaded = super().resume_or_load(path, resume=resume)
        problems = [*self.incompatible.missing_keys, *self.incompatible.unexpected_keys]
        problems += [key for key, *_ in self.incompatible.incorrect_shapes]
        if problems:
            raise UserError(
                f"the last checkpoint does not fit the model: {', '.join(problems[:3])}",
                path=self.save_dir,
                remedy="remove the folder to train again",
            )
        return loaded

    def _files(self) -> list[Path]:
        """The checkpoints of this run, but for the weights that were best on the validation tiles."""
        return [path for path in Path(self.save_dir).glob("model_*.pth") if path.name != BEST_FILE]


def export_detector(
    path: str | Path,
    detector: nn.Module,
    cfg: CfgNode,
    *,
    input_mpp: float,
    tile_px: int,
    class_names: tuple[str, ...],
    provenance: dict[str, Any],
    score_thresh: float | None = None,
) -> None:
    """Write ``detector`` (a plain detector, never a distiller) as one self-contained file, atomically.

    A BFA that ``cfg`` has not enabled is left out. The other arguments are what :class:`Detector` has; a
    ``score_thresh`` of None is left out.
    """
    cfg = cfg.clone()
    cfg.defrost()
    if cfg.MODEL.META_ARCHITECTURE == "MHKD":
        cfg.MODEL.META_ARCHITECTURE = cfg.MODEL.MHKD.STUDENT
    # The file carries the weights: building it again must neither look for others nor for a teacher.
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.TIMM.PRETRAINED = "none"
    if cfg.MODEL.MHKD.PRECISION == "float16":  # which a CPU does not compute
        cfg.MODEL.MHKD.PRECISION = "auto"
    cfg.MODEL.MHKD.PHASES = []
    cfg.MODEL.MHKD.TEACHER.CONFIG_FILE = cfg.MODEL.MHKD.TEACHER.WEIGHTS = ""
    cfg.DATASETS.TILES = cfg.OUTPUT_DIR = ""
    content = {
        "format": FORMAT_VERSION,
        "model": {
            key: value.detach().cpu().contiguous()
            for key, value in detector.state_dict().items()
            if cfg.MODEL.MHKD.BFA.ENABLED or not key.startswith("bfa.")
        },
        "config": cfg.dump(),
        "input_mpp": input_mpp,
        "tile_px": tile_px,
        "class_names": list(class_names),
        "provenance": provenance,
        **({} if score_thresh is None else {"score_thresh": score_thresh}),
    }
    write_checkpoint(path, content)


def store_threshold(source: str | Path, target: str | Path, score_thresh: float, origin: str) -> None:
    """Write the exported detector ``source`` to ``target`` with another ``score_thresh``, atomically.

    ``origin`` says in its provenance where the threshold comes from. ``source`` itself stays as it is, for later steps
    know it by its hash. Raises UserError where it is no exported detector.
    """
    content = read_export(source)
    content["score_thresh"] = score_thresh
    content["provenance"] = {**content.get("provenance", {}), "score_thresh_origin": origin}
    write_checkpoint(target, content)


def load_initial_weights(model: GeneralizedRCNN, path: str) -> None:
    """Start ``model`` from an exported detector (strictly; only a new BFA may be missing) or from a backbone.

    A backbone file is one of Detectron2's model zoo, matched by its naming rules.

    Raises:
        UserError: the file does not fit, with the key names.
    """
    if Path(path).suffix != ".pkl" and not path.startswith("detectron2://"):
        content = read_checkpoint(path)
        load_strictly(model, content.get("model", content), path, may_be_missing=("bfa.",))
        return
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(path)
    missing = [key for key in checkpointer.incompatible.missing_keys if key.startswith("backbone.bottom_up.")]
    # Beside its stages a backbone file has a classifier, which nothing here reads.
    unknown = [key for key in checkpointer.incompatible.unexpected_keys if re.search(r"\bres\d", key)]
    for problem, keys in (("lack", missing), ("have unknown", unknown)):
        if keys := [key for key in keys if not key.endswith("num_batches_tracked")]:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UserError(
                f"the backbone weights {problem} {', '.join(keys[:3])}{more}",
                path=path,
                remedy="check MODEL.BACKBONE and MODEL.RESNETS",
            )
