"""Draw a contact sheet: random tile pairs with their boxes, the teacher's tile beside the student's."""

from __future__ import annotations

import argparse
from pathlib import Path

from preprocess.base.arguments import positive, seed
from preprocess.base.console import EXIT_OK, command_parser, run_main
from preprocess.base.images import write_image
from preprocess.slides.table import SPLITS
from preprocess.tiles.contact_sheet import contact_sheet
from preprocess.tiles.manifest import Manifest
from preprocess.tiles.pseudo_labels import PseudoLabels, add_pseudo_labels

EXAMPLES = """
Each class has its colour; boxes to be ignored (such as those cut by the tile's border) are orange; what a detector
found on slides that nobody annotated (--pseudo-labels) is violet, with its score.
With --checkerboard a third picture takes its fields from teacher and student in turn: where the pair
is aligned, outlines run on from field to field.

Examples:
  mhkd visualize-tiles tiles --output sheet.png
  mhkd visualize-tiles tiles --output val.png --split val --count 24 --seed 1
  mhkd visualize-tiles tiles --output labels.png --pseudo-labels output/pseudo_labels
  mhkd visualize-tiles tiles --output a.png --slide case_17 --checkerboard
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("tiles_dir", type=Path, help="folder with a manifest, as mhkd tiles writes it")
    parser.add_argument("--output", type=Path, required=True, help="picture to write, .png or .jpg")
    parser.add_argument("--split", choices=SPLITS, help="split to draw from (default: train, or all with --slide)")
    parser.add_argument("--slide", metavar="NAME", help="draw from this slide only (its name in the manifest)")
    parser.add_argument("--pseudo-labels", metavar="FOLDER", help="written by mhkd pseudo-labels: draw these boxes too")
    parser.add_argument("--checkerboard", action="store_true", help="add a picture that shows both in turn")
    parser.add_argument("--count", type=positive, default=12, help="number of pairs")
    parser.add_argument("--seed", type=seed, default=0, help="for the choice of pairs")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    manifest = Manifest.read(args.tiles_dir)
    if args.pseudo_labels:
        manifest = add_pseudo_labels(manifest, PseudoLabels.read(args.pseudo_labels))
    if args.split or not args.slide:
        manifest = manifest.split(args.split or "train")
    sheet = contact_sheet(manifest, count=args.count, seed=args.seed, slide=args.slide, checkerboard=args.checkerboard)
    write_image(args.output, sheet)
    print(args.output)
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
