"""Find glomeruli on whole slides: an overlay picture, QuPath GeoJSON, CSV and a summary for each slide."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from mhkd.detector import describe_detector
from mhkd.engine.checkpoint import load_detector, resolve_device
from mhkd.inference.merge import RULES
from mhkd.inference.predictor import SCORE_FLOOR, SlidePredictor
from mhkd.inference.slide_runner import SUFFIXES, SlideResult, run_slide
from mhkd.provenance import software
from preprocess.cohort import Outcome, run_cohort
from preprocess.console import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL, HelpFormatter, run_main
from preprocess.errors import UserError
from preprocess.files import safe_name

DEFAULT_CHECKPOINT = "output/demo/step3/detector.pth"
EXAMPLES = """examples:
  # with the model that `make demo` trained
  python tools/infer_wsi.py slide.svs

  # a file that does not state its pixel size, with a model of your own
  python tools/infer_wsi.py scan.tif --mpp 0.5 --checkpoint detector.pth --output-dir results

  # many slides: one that fails does not stop the others (exit status 3)
  python tools/infer_wsi.py slides/*.svs --output-dir results --device cuda --batch-size 16

Outputs of an earlier run are replaced, each file as a whole.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=HelpFormatter)
    parser.add_argument("slides", nargs="+", metavar="SLIDE", help="any file that OpenSlide opens, or a plain image")
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="the detector, as training exported it")
    parser.add_argument("--output-dir", default="output/inference", help="folder for the results")
    parser.add_argument("--mpp", type=float, help="um per level-0 pixel; overrides what the slide says")
    parser.add_argument("--score-thresh", type=float, default=0.5, help="leave out detections that score less")
    parser.add_argument("--tile-px", type=int, help="side of the tiles in the model's pixels (default: as trained)")
    parser.add_argument("--overlap", type=float, default=0.25, help="of neighbouring tiles, as a share of their side")
    parser.add_argument("--batch-size", type=int, default=4, help="tiles per step of the model")
    parser.add_argument("--merge-rule", choices=RULES, default=RULES[0], help="how boxes are merged at the seams")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: cuda where there is one")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if not 0.0 <= args.score_thresh <= 1.0:
        raise UserError(f"a score threshold of {args.score_thresh:g} is not possible", remedy="give 0 to 1")
    _check_names(args.slides)
    if args.checkpoint == DEFAULT_CHECKPOINT and not Path(args.checkpoint).is_file():
        raise UserError("no model yet", path=args.checkpoint, remedy="run `make demo`, or give one with --checkpoint")
    detector = load_detector(args.checkpoint, resolve_device(args.device))
    predictor = SlidePredictor(
        detector,
        tile_px=args.tile_px,
        overlap=args.overlap,
        batch_size=args.batch_size,
        score_thresh=min(SCORE_FLOOR, args.score_thresh),
        merge_rule=args.merge_rule,
    )
    origin = {"model": describe_detector(detector), "provenance": software()}
    search = partial(
        run_slide,
        predictor=predictor,
        output_dir=args.output_dir,
        mpp=args.mpp,
        score_thresh=args.score_thresh,
        origin=origin,
    )
    return _report(run_cohort(search, args.slides), Path(args.output_dir))


def _report(outcomes: list[Outcome[str, SlideResult]], output_dir: Path) -> int:
    """Say what became of each slide, the failures last; the exit status."""
    for result in (outcome.value for outcome in outcomes if outcome.value is not None):
        for warning in result.summary["warnings"]:
            print(f"warning: {result.name}: {warning}", file=sys.stderr)
        print(result.sentence())
        print(f"  {output_dir / result.name}{{{','.join(SUFFIXES)}}}")
    errors = [outcome.error for outcome in outcomes if outcome.error]
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if errors and len(outcomes) > 1:
        print(f"{len(errors)} of {len(outcomes)} slides failed", file=sys.stderr)
    return EXIT_OK if not errors else EXIT_ERROR if len(errors) == len(outcomes) else EXIT_PARTIAL


def _check_names(slides: list[str]) -> None:
    """Two slides of one name would overwrite each other's results."""
    names = [safe_name(slide).lower() for slide in slides]
    for slide, name in zip(slides, names, strict=True):
        if names.count(name) > 1:
            raise UserError(
                "another slide has the same name", path=slide, remedy="run them into different --output-dir"
            )


if __name__ == "__main__":
    run_main(main)
