"""A contestant's turn as a whole process, and what several turns amount to."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from preprocess.base.errors import UserError
from preprocess.base.files import write_json

SCRIPTS = Path(__file__).parent


def measure(name: str, script: list[Any], options: list[str], job: dict[str, Any]) -> dict[str, float]:
    """One whole run: tiles, seconds, and the peak memory of the largest process in MB."""
    with tempfile.TemporaryDirectory(prefix="tiling-") as folder:
        out = Path(folder, "out")
        out.mkdir()
        write_json(Path(folder, "job.json"), job | {"out": str(out)})
        environment = os.environ | {"PYTHONPATH": str(SCRIPTS.parents[2])}
        with Path(folder, "log.txt").open("w") as log:
            command = [*script, Path(folder, "job.json"), *options]
            took = launch(command, Path(folder), stdout=log, stderr=subprocess.STDOUT, env=environment)
        if took.pop("exit_code") != 0:
            raise UserError(f"{name} failed: {Path(folder, 'log.txt').read_text()[-2000:]}")
        tiles = sum(path.parent.name != "masks" for path in out.rglob("*.jpg"))
        for archive in out.rglob("*.tar"):
            with tarfile.open(archive) as tar:
                tiles += len(tar.getnames())
        return {"tiles": tiles, **took}


def launch(command: list[Any], folder: Path, **streams: Any) -> dict[str, float]:
    """What ``command`` took, and its exit code; a small process starts it: a child inherits its parent's peak."""
    took = folder / "took.json"
    subprocess.run([sys.executable, SCRIPTS / "launch.py", took, *command], check=True, **streams)
    return json.loads(took.read_text())


def summary(turns: list[dict[str, float]]) -> dict[str, float]:
    """The median of the turns."""
    row = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    rates = [turn["tiles"] / turn["seconds"] for turn in turns]
    return row | {"tiles_per_s": statistics.median(rates), "lowest": min(rates), "highest": max(rates)}
