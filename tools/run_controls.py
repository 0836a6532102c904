"""Train and score the controls that show what distillation is worth, over several seeds, as one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from mhkd.ablation.report import write_report
from mhkd.ablation.runner import run_controls
from mhkd.ablation.table import CONTROLS, Recipe
from mhkd.deploy.detector_file import resolve_device
from preprocess.base.arguments import count, positive
from preprocess.base.console import command_parser, report, run_main
from preprocess.base.errors import UserError
from preprocess.base.files import exclusive_use
from preprocess.jobs.job_result import failures
from preprocess.slides.table import SPLITS

EXAMPLES = f"""
Every student gets the same iterations and starts from the teacher of its seed, or from ImageNet weights where --configs
say so (plain and independent always do, with iterations of their own). Both are checked, and a run is never done twice:
a finished one is read, or refused where settings or teacher are others now. Tune on --split val; look at test once.

controls:
{chr(10).join(f"  {name:14} {control.text}" for name, control in CONTROLS.items())}
  NAME_labels    a student that learns from what the teacher finds on unannotated slides as well
  NAME_x2.2      a student or plain with 2.2 times its iterations: equal time rather than equal iterations

examples:
  # the whole table, three seeds, two runs at once
  mhkd ablate --tiles output/demo/tiles --slides data/demo/slides.csv --output-dir output/controls \\
      --jobs 2

  # does another learning rate help? scored on the validation slides, with the teachers of the table above
  mhkd ablate --tiles output/demo/tiles --slides data/demo/slides.csv --output-dir output/faster \\
      --controls strict,phases12 --split val --teachers output/controls SOLVER.BASE_LR 0.001

  # slides that nobody annotated, for a native student, at equal iterations and at equal time
  mhkd ablate --configs configs/reference_native --tiles output/evidence/tiles \\
      --slides data/evidence/slides.csv --output-dir output/evidence/native --jobs 2 \\
      --controls plain,plain_labels_x2.2,features_finer_labels,self_training,placebo

  # weights of the losses stand in the steps: name a folder of your own, a copy of configs/demo with other numbers
  mhkd ablate --configs mine ...
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="teacher, baselines and steps")
    parser.add_argument("--tiles", type=Path, required=True, help="folder written by mhkd tiles")
    parser.add_argument("--slides", type=Path, required=True, help="the cohort table, with annotations")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for runs, tables and plot")
    parser.add_argument(
        "--controls",
        default=",".join(name for name, control in CONTROLS.items() if not control.needs_unlabelled),
        metavar="NAME,...",
        help="rows of the table, see below (default: all that need no unlabelled slides)",
    )
    parser.add_argument("--oracle-tiles", type=Path, help="those of the same slides, all annotated, for oracle")
    parser.add_argument("--seeds", default="1,2,3", metavar="N,...", help="a run of each control for each of them")
    parser.add_argument("--iterations", type=positive, help="of every student (default: baseline_strict.yaml's)")
    parser.add_argument("--plain-iterations", type=positive, help="of plain (default: plain.yaml's)")
    parser.add_argument("--teacher-iterations", type=positive, help="of the teacher (default: teacher.yaml's)")
    parser.add_argument("--teacher-opts", default="", metavar='"KEY VALUE"', help="overrides for the teacher")
    parser.add_argument("--teachers", type=Path, help="take the teachers, of the same making, from this output folder")
    parser.add_argument("--split", choices=SPLITS, default="test", help="what to score")
    parser.add_argument("--jobs", type=count, default=1, help="runs at once, 1 to 2 GB each; 0: in this process")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: cuda where there is one")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="overrides for independent and students")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    recipe = Recipe.of(
        args.configs,
        args.tiles,
        teacher_iterations=args.teacher_iterations,
        iterations=args.iterations,
        plain_iterations=args.plain_iterations,
        oracle_tiles=args.oracle_tiles,
        overrides=tuple(args.overrides),
        teacher_overrides=tuple(args.teacher_opts.split()),
        device=resolve_device(args.device),
    )
    with exclusive_use(args.output_dir):
        what = (args.controls.split(","), _seeds(args.seeds), recipe, args.slides, args.output_dir)
        outcomes = run_controls(*what, split=args.split, jobs=args.jobs, teachers=args.teachers)
        results = [outcome.value for outcome in outcomes if outcome.value is not None]
        lines = []
        if results:
            table, figures, plot = write_report(results, args.output_dir)
            lines = [*figures.read_text(encoding="utf-8").splitlines(), str(table), str(figures), str(plot)]
    return report(lines, failures(outcomes), len(outcomes))


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text!r} are no numbers", remedy="give them like 1,2,3") from None


if __name__ == "__main__":
    run_main(main)
