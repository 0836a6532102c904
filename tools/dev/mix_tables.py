"""Make one training table of procedural slides and a few real images of PAS slides, each in many stains."""

from __future__ import annotations

import argparse
from pathlib import Path

from preprocess.base.arguments import count, seed
from preprocess.base.console import command_parser, run_main
from preprocess.base.errors import UserError
from preprocess.synthetic.mixture import mix, read_real
from preprocess.tiles.splits import parse_fractions

EXAMPLES = """
Both tables are slides.csv (docs/slides.md). Real images are plain images of PAS slides with outlines and mpp; those for
training get copies in PAS, HE, trichrome and silver as other laboratories would have made them; the others stay as they
are. They are split by patient, unless the table has a column split. The same seed gives the same bytes.

Examples:
  # what the bundled model was trained on: docs/model_card.md
  python tools/make_demo_slides.py --varied --seed 11 --train 36 --val 6 --test 6 --slide-mm 2.6 2.2 \\
      --output-dir data/bundled/procedural
  python -m tools.dev.mix_tables data/bundled/procedural/slides.csv aidpath/slides.csv --output data/bundled/slides.csv
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("procedural", type=Path, help="table of the procedural slides, with the column split")
    parser.add_argument("real", type=Path, help="table of the real images")
    parser.add_argument("--source", help="take only the rows with this in the column source of the real table")
    parser.add_argument("--output", type=Path, required=True, help="the table to write; copies go beside it")
    parser.add_argument("--copies", type=count, default=24, help="copies of each real training image")
    parser.add_argument("--split", default="0.6/0.2/0.2", help="train/val/test of the real images, by patient")
    parser.add_argument("--seed", type=seed, default=11, help="decides every byte of the copies")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.copies < 0 or args.seed < 0:
        raise UserError("--copies and --seed must not be negative")
    real = read_real(args.real, args.source, parse_fractions(args.split))
    table = mix(args.procedural, real, args.output, copies=args.copies, seed=args.seed)
    print(table.groupby(["source", "split"], sort=False).size().to_string())
    print(f"table: {args.output}")
    return 0


if __name__ == "__main__":
    run_main(main)
