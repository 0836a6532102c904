"""Time an iteration of each control as a multiple of the strict baseline's, all in turns on the same batches."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage

from mhkd.ablation.report import markdown_table
from mhkd.ablation.table import CONTROLS, STRICT, Recipe
from mhkd.deploy.detector import quiet_torch
from mhkd.deploy.detector_file import resolve_device
from mhkd.engine.run_config import fit_to_data
from mhkd.engine.trainer import Trainer
from preprocess.base.arguments import positive
from preprocess.base.console import EXIT_OK, command_parser, run_main
from preprocess.base.errors import UserError
from preprocess.base.files import write_csv
from preprocess.tiles.manifest import Manifest
from tools.benchmarks.speed import BATCHES, phases_apart, take_turns

ALONE = [name for name in CONTROLS if name.startswith("alone_")]
OTHERS = ["phase1", *ALONE, "shift_half", "strict_half", "phases1234"]
EXAMPLES = """
Reading tiles is not timed. Ratios are medians over the rounds, in brackets their quartiles; processor time is what
other processes disturb less. All controls are in memory at once, about 100 MB each.

examples:
  python -m tools.benchmarks.controls --tiles output/demo/tiles --teacher output/demo/teacher/detector.pth
  python -m tools.benchmarks.controls --tiles tiles --teacher detector.pth --controls joint,phases1234_u1 --rounds 50
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="teacher, baselines and steps")
    parser.add_argument("--tiles", type=Path, required=True, help="folder written by make_tiles.py")
    parser.add_argument("--teacher", type=Path, required=True, help="detector.pth of the teacher")
    parser.add_argument("--controls", default=",".join(OTHERS), metavar="NAME,...", help="which, beside strict")
    parser.add_argument("--rounds", type=positive, default=20, help="turns of each phase of each control")
    parser.add_argument("--threads", type=positive, help="of torch (default: torch's own)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: cuda where there is one")
    parser.add_argument("--output-csv", type=Path, help="file for the figures")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="overrides, best after --")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    # So many iterations that four phases share them equally; none is trained to its end.
    iterations = {"teacher_iterations": 400, "iterations": 400}
    device, overrides = resolve_device(args.device), tuple(args.overrides)
    recipe = Recipe.of(args.configs, args.tiles, **iterations, overrides=overrides, device=device)
    frame = measure_costs(recipe, args.controls.split(","), args.teacher, args.rounds)
    if args.output_csv:
        write_csv(args.output_csv, frame)
    print(markdown(frame))
    return EXIT_OK


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
    phases = {}
    for name in dict.fromkeys([STRICT, *names]):
        cfg = recipe.config(CONTROLS[name], seed=1, output_dir=Path("unused"), teacher=teacher)
        phases[name] = phases_apart(fit_to_data(cfg, manifest))
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
    cells = ("{control}", "{seconds:.2f}", "{ratio:.2f} [{low:.2f}-{high:.2f}]", "{cpu_ratio:.2f}")
    rows = [[cell.format(**row) for cell in cells] for row in frame.to_dict("records")]
    return markdown_table(["control", "s", "of strict's", "processor time"], rows)


def _step(cfg: CfgNode, batches: Sequence[Any]) -> Callable[[], None]:
    """One iteration of training on ``batches``, which come in turn."""
    model = Trainer.build_model(cfg)
    copies = cycle([list(batch) for batch in batches])
    loop = SimpleTrainer(model, copies, Trainer.build_optimizer(cfg, model))
    loop.iter = 0
    return loop.run_step


def _of_control(name: str, cfgs: Sequence[CfgNode], turns: dict[str, np.ndarray]) -> np.ndarray:
    """(rounds, 2): seconds and processor seconds of an iteration of the control."""
    weights = [cfg.SOLVER.MAX_ITER for cfg in cfgs]
    return np.average([turns[f"{name} {i}"] for i in range(len(cfgs))], axis=0, weights=weights)


def _row(name: str, cost: np.ndarray, strict: np.ndarray) -> dict[str, Any]:
    ratios = cost / strict
    low, high = np.quantile(ratios[:, 0], (0.25, 0.75))
    ratio, cpu_ratio = np.median(ratios, axis=0)
    seconds = np.median(cost[:, 0])
    return {"control": name, "seconds": seconds, "ratio": ratio, "low": low, "high": high, "cpu_ratio": cpu_ratio}


if __name__ == "__main__":
    run_main(main)
