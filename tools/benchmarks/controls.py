"""Time an iteration of each control as a multiple of the strict baseline's, all in turns on the same batches."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from mhkd.ablation.table import CONTROLS, Recipe
from mhkd.deploy.detector_file import resolve_device
from preprocess.base.console import EXIT_OK, HelpFormatter, run_main
from preprocess.base.files import write_text
from tools.benchmarks.control_costs import markdown, measure_costs

OTHERS = [
    "phase1",
    *(name for name in CONTROLS if name.startswith("alone_")),
    "shift_half",
    "strict_half",
    "phases1234",
]
EXAMPLES = """
Reading tiles is not timed. Ratios are medians over the rounds, in brackets their quartiles; processor time is what
other processes disturb less. All controls are in memory at once, about 100 MB each.

examples:
  python -m tools.benchmarks.controls --tiles output/demo/tiles --teacher output/demo/teacher/detector.pth
  python -m tools.benchmarks.controls --tiles tiles --teacher detector.pth --controls joint,phases1234_u1 --rounds 50
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=HelpFormatter)
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="teacher, baselines and steps")
    parser.add_argument("--tiles", type=Path, required=True, help="folder written by make_tiles.py")
    parser.add_argument("--teacher", type=Path, required=True, help="detector.pth of the teacher")
    parser.add_argument("--controls", default=",".join(OTHERS), metavar="NAME,...", help="which, beside strict")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each phase of each control")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: cuda where there is one")
    parser.add_argument("--output-csv", type=Path, help="file for the figures")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="overrides, best after --")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    # So many iterations that four phases share them equally; none is trained to its end.
    iterations = {"teacher_iterations": 400, "iterations": 400}
    device, overrides = resolve_device(args.device), tuple(args.overrides)
    recipe = Recipe.of(args.configs, args.tiles, **iterations, overrides=overrides, device=device)
    frame = measure_costs(recipe, args.controls.split(","), args.teacher, args.rounds)
    if args.output_csv:
        write_text(args.output_csv, frame.to_csv(index=False))
    print(markdown(frame))
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
