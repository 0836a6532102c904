"""The speed of several phases and up-sampling factors as one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from mhkd.engine.trainer import Trainer
from mhkd.weights import write_checkpoint
from tools.benchmarks.speed import measure_loading, measure_phase, named_phases

Row = dict[str, Any]


def measure_all(
    cfg: CfgNode, names: Sequence[str], factors: Sequence[int], iterations: int, workers: Sequence[int] = ()
) -> Iterator[Row]:
    """One row for each phase and factor u: of its speed, or, where ``workers`` are given, of its loading.

    Args:
        cfg: a distillation step with its tiles and its teacher.
        names: of :data:`tools.benchmarks.speed.PHASES`.
        workers: numbers of loading processes to compare.
    """
    for factor in factors:
        scaled = cfg.clone()
        scaled.defrost()
        scaled.MODEL.MHKD.UPSAMPLE = factor
        for name, phase in named_phases(scaled, names):
            what = {"phase": name, "upsample": factor}
            if not workers:
                yield what | measure_phase(phase, iterations)
            for row in measure_loading(phase, workers, iterations) if workers else ():
                yield what | row


def name_random_teacher(cfg: CfgNode, teacher_cfg: CfgNode, folder: Path) -> None:
    """Make the teacher of ``cfg`` one with the random weights of ``teacher_cfg``, kept in ``folder``."""
    write_checkpoint(folder / "teacher.pth", {"model": Trainer.build_model(teacher_cfg).state_dict()})
    (folder / "teacher.yaml").write_text(teacher_cfg.dump(), encoding="utf-8")
    cfg.MODEL.MHKD.TEACHER.CONFIG_FILE = str(folder / "teacher.yaml")
    cfg.MODEL.MHKD.TEACHER.WEIGHTS = str(folder / "teacher.pth")


def markdown(rows: Sequence[Row]) -> str:
    """A line for each phase (and number of workers) with columns for each factor u."""
    if "workers" in rows[0]:
        heads, columns = ("s", "waits ms (share)", "images/s", "first batch s"), _loading
    else:
        heads, columns = ("s", "of the floor", "images/s", "MB (floor)"), _speed
    factors = list(dict.fromkeys(row["upsample"] for row in rows))
    lines: dict[str, list[str]] = {}
    for row in rows:
        name = row["phase"] + (f", {row['workers']} workers" if "workers" in row else "")
        lines.setdefault(name, []).extend(columns(row))
    titles = [f"u = {factor}: {head}" for factor in factors for head in heads]
    table = [["", *titles], ["---"] * (len(titles) + 1), *([name, *cells] for name, cells in lines.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _speed(row: Row) -> list[str]:
    low, high = row["quartiles"]
    memory = "-" if row["peak_mb"] is None else f"{row['peak_mb']:.0f} ({row['floor_peak_mb']:.0f})"
    ratio = f"{row['ratio']:.3f} [{low:.3f}-{high:.3f}], cpu {row['cpu_ratio']:.3f}"
    return [f"{row['seconds']:.3f}", ratio, f"{row['images_per_s']:.1f}", memory]


def _loading(row: Row) -> list[str]:
    waiting = f"{row['waiting_ms']:.1f} ({row['waiting_share']:.1%})"
    return [f"{row['seconds']:.3f}", waiting, f"{row['images_per_s']:.1f}", f"{row['start_s']:.2f}"]
