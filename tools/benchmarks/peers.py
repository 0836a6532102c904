"""Train what one would pick instead of this project on the same low-resolution tiles, and score it the same way."""

from __future__ import annotations

import argparse
from pathlib import Path

from mhkd.ablation.runner import run_folder
from mhkd.ablation.table import TEACHER, Recipe
from mhkd.deploy.detector_file import resolve_device
from mhkd.engine.student_export import DETECTOR_FILE
from preprocess.base.arguments import amount, positive
from preprocess.base.console import command_parser, describe_error, report, run_main
from preprocess.base.errors import UserError
from preprocess.base.files import write_csv, write_text
from preprocess.slides.table import SPLITS
from tools.benchmarks.contestants.peer_runs import FROM_TEACHER, PEERS, Job, markdown, table

EXAMPLES = f"""
Peers that begin without a teacher get the iterations of teacher and student together, as the independent baseline does;
tiles, order and flips are those of our training, but for YOLO, which has its own. Finished runs are not run again.

peers:
{chr(10).join(f"  {name:22} {text}" for name, text in PEERS.items())}

examples:
  # all that needs no further package, beside the student of the controls
  python -m tools.benchmarks.peers --tiles output/demo/tiles --slides data/demo/slides.csv --teachers output/controls \\
      --output-dir output/peers --peers bicubic,bicubic-trained,torchvision-mobilenet,torchvision-lite0 \\
      --model student=output/controls/phases1234/seed1/detector.pth
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("--tiles", type=Path, required=True, help="folder written by make_tiles.py")
    parser.add_argument("--slides", type=Path, required=True, help="the cohort table, with annotations")
    parser.add_argument("--teachers", type=Path, required=True, help="output folder of controls that had the teachers")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for runs and tables")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAME,...", help="rows of the table, see below")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=MODEL", help="ours; may be repeated")
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"), help="teacher and baseline of ours")
    parser.add_argument("--seeds", default="1", metavar="N,...", help="a run of each peer for each of them")
    parser.add_argument("--iterations", type=positive, help="of a student (default: baseline_strict.yaml's)")
    parser.add_argument("--teacher-iterations", type=positive, help="of the teacher (default: teacher.yaml's)")
    parser.add_argument(
        "--cpu-seconds", type=amount, help="training of torchvision's detectors, in processor seconds, not iterations"
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="what to score")
    parser.add_argument("--device", default="auto", help="of our own detectors; the peers run on the CPU")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="overrides for bicubic-trained")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    names, seeds = args.peers.split(","), [int(seed) for seed in args.seeds.split(",")]
    if unknown := [name for name in names if name not in PEERS]:
        raise UserError(f"no peer is called {', '.join(unknown)}", remedy=f"there are {', '.join(PEERS)}")
    if args.cpu_seconds is not None and args.cpu_seconds <= 0:
        raise UserError(f"no training in {args.cpu_seconds:g} seconds", remedy="give --cpu-seconds more than 0")
    recipe = Recipe.of(
        args.configs,
        args.tiles,
        teacher_iterations=args.teacher_iterations,
        iterations=args.iterations,
        overrides=tuple(args.overrides),
        device=resolve_device(args.device),
    )
    from_scratch = recipe.iterations + recipe.teacher_iterations
    job = Job(recipe, args.slides, args.split, from_scratch, args.output_dir, args.cpu_seconds)
    results, failed = [], []
    for name in names:
        for seed in seeds:
            teacher = run_folder(args.teachers, TEACHER, seed) / DETECTOR_FILE if name in FROM_TEACHER else None
            try:
                results.append(job.run(name, seed, teacher))
            except (UserError, OSError) as error:
                failed.append(f"{name}, seed {seed}: {describe_error(error)}")
    ours = [text.partition("=") for text in args.model]
    results += [job.score_ours(name, Path(path)) for name, _, path in ours]
    lines = []
    if results:
        frame = table(results)
        write_csv(args.output_dir / "peers.csv", frame)
        write_text(args.output_dir / "peers.md", markdown(frame))
        lines = [markdown(frame), str(args.output_dir / "peers.csv"), str(args.output_dir / "peers.md")]
    return report(lines, failed, len(names) * len(seeds) + len(ours))


if __name__ == "__main__":
    run_main(main)
