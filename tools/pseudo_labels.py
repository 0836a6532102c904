"""Label the slides that nobody annotated: the teacher searches them, and the student learns from what it finds."""

from __future__ import annotations

import argparse
from pathlib import Path

from mhkd.deploy.detector_file import resolve_device
from mhkd.deploy.load import BACKENDS, load_model
from mhkd.deploy.registry import find_model
from mhkd.evaluation.pseudo_labels import make_pseudo_labels
from mhkd.inference.slide_job import ModelFile
from preprocess.base.arguments import count, share
from preprocess.base.console import EXIT_OK, command_parser, run_main
from preprocess.base.files import exclusive_use
from preprocess.tiles.manifest import Manifest

EXAMPLES = """
For the slides that slides.csv says are not labelled (docs/training.md). A detection with a score of --sure-thresh or
more becomes a box, which counts by its score; one of --unsure-thresh or more is to be ignored; all else is background.
By default both are chosen on the validation slides. Slides that were searched before are not searched again; with
another model all are.

Examples:
  mhkd pseudo-labels --tiles data/tiles --slides data/slides.csv --model output/teacher/detector.pth \\
      --output-dir output/pseudo_labels
  mhkd train --config-file configs/demo/distill.yaml --tiles data/tiles --output-dir output/distill \\
      --teacher output/teacher/detector.pth --pseudo-labels output/pseudo_labels
  mhkd visualize-tiles data/tiles --pseudo-labels output/pseudo_labels --output sheet.png
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("--tiles", type=Path, required=True, help="folder written by mhkd tiles")
    parser.add_argument("--slides", type=Path, required=True, help="the table that the tiles were made from")
    parser.add_argument("--model", required=True, help="the detector that labels: the teacher's detector.pth")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for the labels and the searches")
    parser.add_argument("--sure-thresh", type=share, help="score of an object (default: best on val)")
    parser.add_argument("--unsure-thresh", type=share, help="score of what may be one (default: best on val)")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model (docs/speed.md)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: cuda where there is one")
    parser.add_argument(
        "--workers", type=count, default=0, help="slides at a time, each with its model; 0: in this process"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    manifest = Manifest.read(args.tiles)
    device = resolve_device(args.device)
    model = ModelFile.of(load_model, find_model(args.model), device, args.workers, backend=args.backend)
    with exclusive_use(args.output_dir):
        labels = make_pseudo_labels(
            model,
            args.slides,
            manifest,
            args.output_dir,
            workers=args.workers,
            sure_thresh=args.sure_thresh,
            unsure_thresh=args.unsure_thresh,
        )
    print(*labels.lines(), args.output_dir, sep="\n")
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
