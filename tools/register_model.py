"""Give a trained detector a name: a half-precision file, its hash and its card in a folder's table of models."""

from __future__ import annotations

import argparse
from pathlib import Path

from mhkd.deploy.register import read_card, register_model
from preprocess.base.arguments import share
from preprocess.base.console import command_parser, run_main

EXAMPLES = """
The folder is what MHKD_MODELS names: every command then takes the name where it takes a model. The card is a JSON
object of your own words (data, metrics, limits, licence); reports show it. The original file stays as it is.

Examples:
  mhkd register output/mine/distill/step3/detector.pth --name our-lab --card card.json \\
      --folder ~/models
  MHKD_MODELS=~/models mhkd infer slide.svs --model our-lab
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("model", type=Path, help="a detector.pth that training exported")
    parser.add_argument("--name", required=True, help="the name, and that of the file")
    parser.add_argument("--card", type=Path, required=True, help="JSON: what it was trained on and what it is for")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the file and its registry.json")
    parser.add_argument("--score-thresh", type=share, help="what counts as found (default: what training chose)")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    card = read_card(args.card)
    entry = register_model(args.model, args.folder, args.name, card, score_thresh=args.score_thresh)
    print(f"{entry.name}: {entry.path}, {entry.path.stat().st_size / 1e6:.1f} MB, SHA-256 {entry.sha256}")
    return 0


if __name__ == "__main__":
    run_main(main)
