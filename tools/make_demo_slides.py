"""Make the demo cohort: procedural kidney slides as pyramidal SVS and TIFF files, with QuPath outlines of glomeruli."""

from __future__ import annotations

import argparse
from pathlib import Path

from preprocess.base.arguments import count, number, seed
from preprocess.base.console import command_parser, run_main
from preprocess.base.errors import UserError
from preprocess.synthetic.cohort import demo_cohort, make_cohort, summary, varied

EXAMPLES = """
Examples:
  mhkd demo-slides --output-dir demo
  mhkd demo-slides --output-dir demo --train 2 --val 1 --test 1 --slide-mm 2.0 1.5
  mhkd demo-slides --output-dir evidence --train 8 --unlabelled 40 --val 6 --test 12

Writes slides/, annotations/, slides.csv and, for trying a trained model on a slide that no split holds,
unseen.csv; with --unlabelled also oracle.csv, which is slides.csv with the annotations of those slides. The
same seed gives the same bytes; finished slides are kept when the command runs again.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write to; made if absent")
    parser.add_argument("--seed", type=seed, default=7, help="decides every byte of every slide")
    parser.add_argument("--workers", type=count, default=2, help="processes; each needs about 1 GB of memory")
    parser.add_argument("--train", type=count, default=8, help="number of training slides")
    parser.add_argument("--unlabelled", type=count, default=0, help="so many more training slides without annotation")
    parser.add_argument("--val", type=count, default=2, help="number of validation slides")
    parser.add_argument("--test", type=count, default=4, help="number of test slides")
    parser.add_argument(
        "--slide-mm",
        type=number(0.5, 100),
        nargs=2,
        default=(3.8, 3.3),
        metavar=("WIDTH", "HEIGHT"),
        help="size of each slide",
    )
    parser.add_argument(
        "--varied", action="store_true", help="every slide from another laboratory: five stains, many looks"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    counts = {"train": args.train + args.unlabelled, "val": args.val, "test": args.test}
    if min(args.seed, args.train, args.unlabelled, *counts.values()) < 0:
        raise UserError("--seed, --train, --unlabelled, --val and --test must not be negative")
    if not all(0.6 <= side <= 20 for side in args.slide_mm):
        raise UserError(f"--slide-mm is {args.slide_mm}", remedy="give 0.6 to 20 mm a side")
    width, height = (round(side * 2000 / 64) * 64 for side in args.slide_mm)
    specs = demo_cohort(args.seed, counts, size_px=(width, height))
    specs = varied(specs) if args.varied else specs
    print(summary(make_cohort(specs, args.output_dir, args.workers, unlabelled=args.unlabelled)))
    print(f"cohort table: {args.output_dir / 'slides.csv'}")
    return 0


if __name__ == "__main__":
    run_main(main)
