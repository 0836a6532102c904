"""Export a trained detector as one file that runs without this project: TorchScript or ONNX, checked on real tiles."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from mhkd.deploy.detector_file import Detector
from mhkd.deploy.export import export_graph
from mhkd.deploy.exported import SUFFIXES, load_exported
from mhkd.deploy.load import load_model
from mhkd.deploy.parity import BOX_PX, SCORE
from mhkd.inference.predictor import SlidePredictor
from mhkd.inference.tile_parity import tile_parity
from preprocess.base.arguments import mpp, positive, share
from preprocess.base.console import EXIT_ERROR, EXIT_OK, command_parser, run_main
from preprocess.base.errors import UserError
from preprocess.slides.slide import Slide

EXAMPLES = f"""examples:
  # TorchScript, and ONNX for ONNX Runtime or OpenVINO (pip install 'mhkd[onnx]' or 'mhkd[openvino]')
  mhkd export output/demo/distill/step3/detector.pth student.torchscript
  mhkd export output/demo/distill/step3/detector.pth student.onnx

  # the same, and compare both on tiles of a slide: exit status 1 where they differ
  mhkd export detector.pth student.onnx --check slide.svs --tiles 20

The file takes one RGB image, uint8 (3, h, w) of any size, at the um/px that its metadata states, and gives boxes (N, 4)
xyxy in pixels, scores and classes. With --check, tiles of three sizes must give the same detections as the checkpoint
in float32: boxes within {BOX_PX} px and scores within {SCORE}.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("model", help="a checkpoint that training exported (.pth), or a registered name")
    parser.add_argument("output", type=Path, help=f"the file to write: {' or '.join(SUFFIXES)}")
    parser.add_argument("--score-thresh", type=share, help="score that counts as found, stored in the file")
    parser.add_argument("--check", metavar="SLIDE", help="compare the file with the checkpoint on tiles of this slide")
    parser.add_argument("--mpp", type=mpp, help="um per level-0 pixel of that slide; overrides what it says")
    parser.add_argument("--tiles", type=positive, default=12, help="how many tiles to compare")
    parser.add_argument("--backend", default="auto", help="what runs the file while it is compared")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.score_thresh is not None and not 0.0 <= args.score_thresh <= 1.0:
        raise UserError(f"a score threshold of {args.score_thresh:g} is not possible", remedy="give 0 to 1")
    if Path(args.model).suffix in SUFFIXES:
        raise UserError("already exported", path=args.model, remedy="give the checkpoint that it was made from")
    detector = cast(Detector, load_model(args.model, device="cpu", backend="eager", precision="float32"))
    export_graph(detector, args.output, score_thresh=args.score_thresh)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    if not args.check:
        return EXIT_OK
    exported = load_exported(args.output, backend=args.backend)
    with Slide.open(args.check, mpp=args.mpp) as slide:
        parity = tile_parity(SlidePredictor(detector), exported, slide, args.tiles)
    print(f"{slide.name}: {parity}")
    return EXIT_OK if parity.within() else EXIT_ERROR


if __name__ == "__main__":
    run_main(main)
