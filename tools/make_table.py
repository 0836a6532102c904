"""Turn the unpacked download of a public cohort into slides.csv, the table that tiles and training start from."""

from __future__ import annotations

import argparse
from pathlib import Path

from preprocess.base.arguments import mpp
from preprocess.base.console import command_parser, note, run_main
from preprocess.cohorts import BUILDERS
from preprocess.tiles.splits import parse_fractions

EXAMPLES = """
Where to download, under which terms, what the splits are worth, and what to do next: docs/recipes.md.

cohorts:
  hubmap        HuBMAP "Hacking the Kidney", 2021: whole slides of human kidney; dealt by donor
  hubmap2023    HuBMAP "Hacking the Human Vasculature", 2023: tiles of 512 px; dealt by donor
  kpis          KPIs 2024: whole slides of mouse kidney; the challenge's own split
  kpis-patches  KPIs 2024: patches of 2048 px; the challenge's own split

Examples:
  mhkd table hubmap downloads/hubmap-kidney-segmentation --output data/hubmap/slides.csv
  mhkd table kpis downloads/kpis --mpp UM --output data/kpis/slides.csv
  make train-step3 SLIDES=data/hubmap/slides.csv CONFIGS=configs/resnet50 OUT=output/hubmap \\
      TILE_OPTS="--merge-labels Glomerulus"
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("cohort", choices=list(BUILDERS), help="which one, see below")
    parser.add_argument("folder", type=Path, help="the unpacked download")
    parser.add_argument("--output", type=Path, default=Path("slides.csv"), help="the table")
    parser.add_argument("--mpp", type=mpp, help="um per level-0 pixel of slides that do not say")
    parser.add_argument("--split", metavar="F/F/F", help="deal patients anew: train/val/test, such as 0.6/0.2/0.2")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    extras = args.output.parent / "annotations"
    fractions = parse_fractions(args.split) if args.split else None
    cohort = BUILDERS[args.cohort](args.folder, extras, mpp=args.mpp, fractions=fractions)
    cohort.write(args.output)
    for text in cohort.notes:
        note(text)
    print(*cohort.lines(), args.output, sep="\n")
    return 0


if __name__ == "__main__":
    run_main(main)
