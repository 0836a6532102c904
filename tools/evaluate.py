"""Score detectors on tiles and whole slides of one split, the last against the others: tables, plots and JSON."""

from __future__ import annotations

import argparse
from typing import Any

from mhkd.deploy.detector import describe_detector
from mhkd.deploy.detector_file import resolve_device
from mhkd.deploy.load import load_model
from mhkd.deploy.model_arguments import name_models
from mhkd.engine.threshold import store_thresholds
from mhkd.evaluation.gallery import COUNT, gallery_columns, write_gallery
from mhkd.evaluation.metrics import DRAWS, SlideMetrics, compare_last
from mhkd.evaluation.plots import write_plots
from mhkd.evaluation.slide_level import evaluate_slides, evaluated_cohort
from mhkd.evaluation.tables import markdown_table, write_results
from mhkd.evaluation.tile_level import evaluate_tiles
from mhkd.inference.predictor import MAX_OVERLAP, SlidePredictor
from mhkd.provenance import software
from preprocess.base.arguments import count, number, positive, share
from preprocess.base.console import command_parser, run_main
from preprocess.base.files import exclusive_use, sha256_of
from preprocess.slides.table import SPLITS
from preprocess.tiles.manifest import Manifest
from preprocess.tiles.placement import MAX_MISPLACED

EXAMPLES = """examples:
  # teacher and student on the test split; F1 where it is best on the validation split
  mhkd evaluate --tiles data/tiles --slides data/slides.csv --output-dir output/evaluation \\
      --model teacher=output/demo/teacher/detector.pth --model student=output/demo/distill/step3/detector.pth

  # whole slides alone, F1 at a score of 0.5, with sheets of the 20 worst failures of each kind, source and stain
  mhkd evaluate --slides data/slides.csv --output-dir output/evaluation --model detector.pth \\
      --score-thresh 0.5 --class-map classes.yaml --gallery 20
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    source = parser.add_argument_group("input")
    source.add_argument("--slides", required=True, help="the cohort table, with annotations")
    source.add_argument("--tiles", help="folder of tiles made from it; without it tiles are not scored")
    source.add_argument("--split", choices=SPLITS, default="test", help="what to score")
    source.add_argument("--model", action="append", required=True, metavar="[NAME=]CHECKPOINT", help="may be repeated")
    source.add_argument("--class-map", metavar="YAML", help="annotated classes to the model's (default: as the tiles)")
    source.add_argument("--max-misplaced", type=share, default=MAX_MISPLACED, help="share of outlines off the tissue")
    output = parser.add_argument_group("output")
    output.add_argument("--output-dir", required=True, help="folder for evaluation.md, evaluation.json and plots")
    output.add_argument("--store-thresholds", action="store_true", help="write the models with what is best on val")
    output.add_argument("--gallery", type=count, nargs="?", const=COUNT, metavar="N", help="sheets of N worst failures")
    output.add_argument("--gallery-by", nargs="*", metavar="COLUMN", help="a sheet for each (default: source, stain)")
    output.add_argument("--draws", type=count, default=DRAWS, help="of the bootstrap by patient; 0 for no intervals")
    detection = parser.add_argument_group("detection")
    detection.add_argument("--score-thresh", type=share, help="of F1 (default: best on val, or the model's)")
    detection.add_argument("--tile-px", type=positive, help="side of tiles on slides (default: 4 x the training's)")
    detection.add_argument(
        "--overlap", type=number(0, MAX_OVERLAP), help="of tiles, as a share (default: 256 um, at most 0.25)"
    )
    speed = parser.add_argument_group("speed")
    speed.add_argument("--batch-size", type=positive, default=1, help="tiles per step of the model")
    speed.add_argument("--device", default="auto", help="cpu, cuda, or auto: cuda where there is one")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with exclusive_use(args.output_dir):
        return _evaluate(args)


def _evaluate(args: argparse.Namespace) -> int:
    checkpoints = name_models(args.model)
    manifest = Manifest.read(args.tiles) if args.tiles else None
    slides, classes = evaluated_cohort(args.slides, manifest, args.class_map, args.gallery_by or ())
    by = gallery_columns(slides, args.gallery_by)
    device = resolve_device(args.device)
    models: dict[str, Any] = {}
    metrics: dict[str, SlideMetrics] = {}
    # All are loaded before the first is run, so that a wrong one does not cost the work of the others.
    for name, detector in {name: load_model(path, device=device) for name, path in checkpoints.items()}.items():
        predictor = SlidePredictor(detector, tile_px=args.tile_px, overlap=args.overlap, batch_size=args.batch_size)
        tiles = None
        if manifest is not None:
            tiles = evaluate_tiles(detector, manifest, args.split, batch_size=args.batch_size, description=name)
        metrics[name] = evaluate_slides(
            predictor.predict,
            slides,
            args.split,
            detector.class_names,
            classes=classes,
            max_misplaced=args.max_misplaced,
            score_thresh=args.score_thresh,
            stored_thresh=detector.score_thresh,
            stored_origin=detector.provenance.get("score_thresh_origin"),
            draws=args.draws,
            description=name,
        )
        about = {**describe_detector(detector), "settings": predictor.settings}
        models[name] = {**about, "tiles": tiles, "slides": metrics[name].result}
    files = {"slides": args.slides} | ({"tiles": manifest.root / "manifest.csv"} if manifest else {})
    inputs = {name: sha256_of(path) for name, path in files.items()}
    results = {"split": args.split, "models": models, "differences": compare_last(metrics)}
    results |= {"inputs": inputs, "settings": {"device": device}, "provenance": software()}
    written = [*write_plots(args.output_dir, metrics), *write_results(args.output_dir, results)]
    if args.gallery is not None:
        input_mpp = {name: model["input_mpp"] for name, model in models.items()}
        written += write_gallery(args.output_dir, metrics, slides, input_mpp, by=by, count=args.gallery)[:1]
    if args.store_thresholds:
        written += store_thresholds(checkpoints, models, args.output_dir)
    print(markdown_table(models), *written, sep="\n")
    return 0


if __name__ == "__main__":
    run_main(main)
