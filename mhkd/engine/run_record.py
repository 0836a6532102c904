"""What a run is made of, written beside it, so that another one is never mixed into its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.utils import comm

from mhkd.engine.pseudo_labels import describe_pseudo_labels
from mhkd.engine.run_config import leaves
from mhkd.modeling.precision import name_of, resolve_precision
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of, write_json, write_text

RECORD_FILE, CONFIG_FILE, LOG_FILE = "run.json", "config.yaml", "log.txt"
LOGGERS = ("detectron2", "fvcore", "mhkd")

# Where files lie does not change what comes out; what is in them does. A position of the data stream is the same
# sample whoever loads it.
_NEUTRAL = (
    *("OUTPUT_DIR", "DATASETS.TILES", "MODEL.WEIGHTS", "MODEL.MHKD.TEACHER.WEIGHTS", "MODEL.MHKD.TEACHER.CONFIG_FILE"),
    *("DATASETS.PSEUDO_LABELS", "DATALOADER.NUM_WORKERS"),
)
_REMEDIES = {"teacher_weights": "run make train-teacher first"}


def describe_run(cfg: CfgNode) -> dict[str, Any]:
    """What decides the outcome of the run that ``cfg`` describes, as plain JSON.

    Returns:
        ``config``: its keys by their full names; ``files``: SHA-256 of tiles, boxes and the weights it begins with;
        ``num_processes``; ``precision``, what MODEL.MHKD.PRECISION means on this machine; ``pseudo_labels``, where
        there are some, by which detector they were made and with which thresholds.

    Raises:
        UserError: one of the files is missing.
    """
    tiles = Path(cfg.DATASETS.TILES)
    paths = {
        "manifest": tiles / "manifest.json",  # other pixels of the same tiles are seen here alone
        "tiles": tiles / "manifest.csv",
        "boxes": tiles / "boxes.csv",
        "weights": cfg.MODEL.WEIGHTS,
        "teacher_weights": cfg.MODEL.MHKD.TEACHER.WEIGHTS,
        "teacher_config": cfg.MODEL.MHKD.TEACHER.CONFIG_FILE,
    }
    files = {}
    for name, path in paths.items():
        if path and "://" not in str(path):
            if not Path(path).is_file():
                raise UserError(f"{name.replace('_', ' ')} not found", path=path, remedy=_REMEDIES.get(name, ""))
            files[name] = sha256_of(path)
    labels = describe_pseudo_labels(cfg)
    if labels:
        files["pseudo_labels"] = labels.pop("sha256")
    plain = yaml.safe_load(cfg.dump())
    return {
        "config": {key: value for key, value in leaves(plain) if key not in _NEUTRAL},
        "files": files,
        "num_processes": comm.get_world_size(),
        "precision": name_of(resolve_precision(cfg.MODEL.MHKD.PRECISION, cfg.MODEL.DEVICE.partition(":")[0])),
        **({"pseudo_labels": labels} if labels else {}),
    }


def hash_of_start(weights: str) -> str | None:
    """SHA-256 of the file that MODEL.WEIGHTS names; None where it names none, or one to be downloaded."""
    return sha256_of(weights) if weights and "://" not in weights else None


def open_run(cfg: CfgNode) -> dict[str, Any]:
    """Begin the run of ``cfg`` in its OUTPUT_DIR, or go on with it; what it is made of (:func:`describe_run`).

    A new run leaves run.json and, as Detectron2's own tools do, config.yaml.

    Raises:
        UserError: the folder holds another run, with the names of what differs.
    """
    run, folder = describe_run(cfg), Path(cfg.OUTPUT_DIR)
    record = folder / RECORD_FILE
    if not record.is_file():
        comm.synchronize()  # nobody looks for the record after the first process has written it
        if comm.is_main_process():
            write_text(folder / CONFIG_FILE, cfg.dump())
            write_json(record, run)
        return run
    before = json.loads(record.read_text(encoding="utf-8"))
    if before != json.loads(json.dumps(run)):
        raise UserError(
            f"holds a run with {_differences(before, run)}",
            path=folder,
            remedy="remove the folder to train again, or give another --output-dir",
        )
    return run


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first keys in which two runs differ, with both values."""
    old, new = (
        {**run.get("config", {}), **{name: run.get(name) for name in ("num_processes", "precision")}}
        for run in (before, now)
    )
    parts = [
        f"{key} {old.get(key)} (now {new.get(key)})" for key in sorted({*old, *new}) if old.get(key) != new.get(key)
    ]
    files = before.get("files", {}), now["files"]
    parts += [f"other {name.replace('_', ' ')}" for name in now["files"] if files[0].get(name) != files[1].get(name)]
    return ", ".join(parts[:5]) + (f" and {len(parts) - 5} more" if len(parts) > 5 else "")


@contextmanager
def logging_to(folder: str | Path) -> Iterator[None]:
    """Append what Detectron2 and mhkd log to log.txt in ``folder``, as Detectron2's tools do; one file a process."""
    rank = comm.get_rank()
    path = Path(folder) / (f"{LOG_FILE}.rank{rank}" if rank else LOG_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    warnings = logging.StreamHandler()  # a logger with a file no longer says them by itself
    warnings.setLevel(logging.WARNING)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", "%m/%d %H:%M:%S"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    logging.getLogger("mhkd").addHandler(warnings)
    for logger in loggers:
        logger.addHandler(handler)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.getLogger("mhkd").removeHandler(warnings)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
