"""What an iteration of each control costs: all of them take turns, so that whatever else the machine does meets all."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage

from mhkd.ablation.report import STRICT
from mhkd.ablation.table import CONTROLS, Recipe
from mhkd.deploy.detector import quiet_torch
from mhkd.engine.run_config import fit_to_data
from mhkd.engine.trainer import Trainer
from preprocess.base.errors import UserError
from preprocess.tiles.manifest import Manifest
from tools.benchmarks.speed import BATCHES, phases_apart, quartiles, take_turns


def measure_costs(recipe: Recipe, names: Sequence[str], teacher: Path, rounds: int) -> pd.DataFrame:
    """Seconds of an iteration without its data, and the ratio to ``strict`` in the same round.

    Args:
        names: controls; ``strict`` is measured with them. All are held in memory at once.
        rounds: how often each phase of each control has its turn.

    Returns:
        A row a control: ``seconds`` (median), ``ratio`` (median), its quartiles ``low`` and ``high``, and
        ``cpu_ratio``, that of processor time. A control of several phases costs their mean, by their iterations.

    Raises:
        UserError: a name that is no control, or one that is not trained.
    """
    if wrong := [name for name in names if name not in CONTROLS or CONTROLS[name].budget != "student"]:
        raise UserError(f"no iterations of a student to time: {', '.join(wrong)}", remedy="leave them out")
    manifest = Manifest.read(recipe.tiles)
    phases = {name: _phases(recipe, name, teacher, manifest) for name in dict.fromkeys([STRICT, *names])}
    distilling = next((cfg for cfgs in phases.values() for cfg in cfgs if cfg.MODEL.META_ARCHITECTURE == "MHKD"), None)
    loader = Trainer.build_train_loader(distilling or phases[STRICT][0])
    batches = list(islice(loader, BATCHES))
    steps = {f"{name} {i}": _step(cfg, batches) for name, cfgs in phases.items() for i, cfg in enumerate(cfgs)}
    with EventStorage(), quiet_torch():
        turns = take_turns(steps, rounds, recipe.device)
    costs = {name: _of_control(name, cfgs, turns) for name, cfgs in phases.items()}
    return pd.DataFrame([_row(name, cost, costs[STRICT]) for name, cost in costs.items()])


def markdown(frame: pd.DataFrame) -> str:
    """The costs as a Markdown table."""
    lines = ["| control | s | of strict's | processor time |", "|---|---:|---:|---:|"]
    for row in frame.to_dict("records"):
        ratio = f"{row['ratio']:.2f} [{row['low']:.2f}-{row['high']:.2f}]"
        lines.append(f"| {row['control']} | {row['seconds']:.2f} | {ratio} | {row['cpu_ratio']:.2f} |")
    return "\n".join(lines) + "\n"


def _phases(recipe: Recipe, name: str, teacher: Path, manifest: Manifest) -> list[CfgNode]:
    cfg = recipe.config(CONTROLS[name], seed=1, output_dir=Path("unused"), teacher=teacher)
    return phases_apart(fit_to_data(cfg, manifest))


def _step(cfg: CfgNode, batches: Sequence[Any]) -> Callable[[], None]:
    """One iteration of training on ``batches``, which come in turn."""
    model = Trainer.build_model(cfg)
    copies = cycle([list(batch) for batch in batches])
    loop = SimpleTrainer(model, copies, Trainer.build_optimizer(cfg, model))
    loop.iter = 0
    return loop.run_step


def _of_control(name: str, cfgs: Sequence[CfgNode], turns: dict[str, list[tuple[float, float]]]) -> np.ndarray:
    """(rounds, 2): seconds and processor seconds of an iteration of the control."""
    weights = [cfg.SOLVER.MAX_ITER for cfg in cfgs]
    return np.average([turns[f"{name} {i}"] for i in range(len(cfgs))], axis=0, weights=weights)


def _row(name: str, cost: np.ndarray, strict: np.ndarray) -> dict[str, Any]:
    ratios = (cost / strict).T
    low, high = quartiles(ratios[0])
    seconds = float(np.median(cost[:, 0]))
    wall, processor = (float(statistics.median(ratio)) for ratio in ratios)
    return {"control": name, "seconds": seconds, "ratio": wall, "low": low, "high": high, "cpu_ratio": processor}
