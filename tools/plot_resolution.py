"""Draw AP and F1 against um/px from the controls of several scales: a figure, a table and one CSV."""

from __future__ import annotations

import argparse
from pathlib import Path

from mhkd.ablation.resolution import CURVES, markdown, read_resolution
from mhkd.ablation.resolution_plot import write_plots
from preprocess.base.console import EXIT_OK, command_parser, run_main
from preprocess.base.files import write_csv, write_text

EXAMPLES = """
Each scale is one output folder of mhkd ablate (one folder of tiles each, the same slides and the same
teachers). Written: resolution.pdf, .svg and .png, resolution.md and resolution.csv. Markers are means over seeds, thick
bars their standard deviations, thin bars bootstrap intervals by patient. What was not run is left out, and said.

examples:
  # four scales below one teacher
  mhkd plot-resolution output/controls-s2 output/controls-s4 output/controls-s8 output/controls-s16 \\
      --output-dir output/resolution

  # other curves
  mhkd plot-resolution output/controls-s* --output-dir output/resolution --controls teacher,strict,joint
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("tables", nargs="+", type=Path, help="controls.csv of each scale, or the folders they are in")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for figure, table and CSV")
    parser.add_argument("--controls", default=",".join(CURVES), metavar="NAME,...", help="the curves, in this order")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    resolution = read_resolution(args.tables, args.controls.split(","))
    text, table = markdown(resolution), args.output_dir / "resolution.csv"
    write_text(args.output_dir / "resolution.md", text)
    write_csv(table, resolution.points)
    written = [args.output_dir / "resolution.md", table, *write_plots(resolution, args.output_dir)]
    print(text, *written, sep="\n")
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
