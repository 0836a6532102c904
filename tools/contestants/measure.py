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

from preprocess.errors import UserError
from preprocess.files import write_json

SCRIPTS = Path(__file__).parent


# A process of its own between ours and the contestant's: Linux counts the memory of whoever starts a process as that
# process's own peak.
_LAUNCHER = """
import json, resource, subprocess, sys, time
with open(sys.argv[1], "w") as log:
    started = time.perf_counter()
    status = subprocess.call(sys.argv[2:], stdout=log, stderr=subprocess.STDOUT)
    seconds = time.perf_counter() - started
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
figures = {"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}
print(json.dumps({"status": status, "figures": figures}))
"""


def measure(name: str, script: list[Any], options: list[str], job: dict[str, Any]) -> dict[str, float]:
    """One whole run: tiles, seconds, and the peak memory of the largest process in MB."""
    with tempfile.TemporaryDirectory(prefix="tiling-") as folder:
        out, log = Path(folder, "out"), Path(folder, "log.txt")
        out.mkdir()
        write_json(Path(folder, "job.json"), job | {"out": str(out)})
        environment = os.environ | {"PYTHONPATH": str(SCRIPTS.parents[1])}
        command = [sys.executable, "-c", _LAUNCHER, log, *script, Path(folder, "job.json"), *options]
        answer = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
        if answer["status"] != 0:
            raise UserError(f"{name} failed: {log.read_text()[-2000:]}")
        tiles = sum(path.parent.name != "masks" for path in out.rglob("*.jpg"))
        for archive in out.rglob("*.tar"):
            with tarfile.open(archive) as tar:
                tiles += len(tar.getnames())
    return {"tiles": tiles, **answer["figures"]}


def summary(turns: list[dict[str, float]]) -> dict[str, float]:
    """The median of the turns."""
    row = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    rates = [turn["tiles"] / turn["seconds"] for turn in turns]
    return row | {"tiles_per_s": statistics.median(rates), "lowest": min(rates), "highest": max(rates)}
