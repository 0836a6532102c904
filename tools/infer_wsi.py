"""Detect glomeruli on whole slides: an overlay picture, QuPath GeoJSON, CSV and a summary for each slide."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from mhkd.deploy.detector_file import resolve_device
from mhkd.deploy.load import BACKENDS, check_model, load_model
from mhkd.deploy.registry import BUNDLED, display_name, find_model
from mhkd.evaluation.annotation_files import annotated_as
from mhkd.evaluation.search_evaluation import evaluate_search
from mhkd.inference.cohort_runner import check_writable, report_search, search_slides
from mhkd.inference.formats import DEFAULT_FORMATS, FORMATS, in_order
from mhkd.inference.slide_job import ModelFile, OutputSpec, SearchOptions, SearchSpec, SlideJob
from preprocess.annotations.origin import ORIGINS
from preprocess.base.arguments import count, mpp, share
from preprocess.base.console import command_parser, run_main
from preprocess.base.files import exclusive_use
from preprocess.jobs.run import add_run_options
from preprocess.slides.naming import name_slides
from preprocess.slides.search import find_slides
from preprocess.tiles.placement import MAX_MISPLACED

EXAMPLES = """
Finished slides are skipped; with other options, another model or a changed slide they are searched again. Other formats
are written without a search. Files and their columns: docs/inference.md.

Examples:
  # with the model that comes with mhkd: what it can and cannot do is in docs/model_card.md
  mhkd infer slide.svs

  # a file that does not state its pixel size, with a model of your own
  mhkd infer scan.tif --mpp 0.5 --model detector.pth --output-dir results

  # all slides below a folder, for ImageScope and COCO tools, under neutral names
  mhkd infer slides/ --output-dir results --formats imagescope coco --anonymize --key key.csv

  # detections scored against QuPath annotations named like the slides
  mhkd infer slides/ --output-dir results --evaluate annotations/

  # a table with the columns slide, mpp, patient; four slides at a time, or on a Ray cluster
  mhkd infer slides.csv --output-dir results --workers 4
  mhkd infer slides.csv --output-dir results --engine ray --address head:6379 --device cuda

Exit code: 0 all slides done, 1 error, 3 some failed (slides: failed.csv), 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    source = parser.add_argument_group("input")
    source.add_argument("slides", nargs="+", metavar="SLIDE", help="slides, images, folders, 'patterns*', slides.csv")
    source.add_argument("--mpp", type=mpp, help="um per level-0 pixel, whatever the slide says; a table goes first")
    source.add_argument("--evaluate", type=Path, metavar="ANNOTATIONS", help="score by these: file, folder, slides.csv")
    source.add_argument("--class-map", type=Path, metavar="YAML", help="with --evaluate: annotated classes to model's")
    source.add_argument(
        "--max-misplaced", type=share, default=MAX_MISPLACED, help="with --evaluate: share of outlines off the tissue"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output-dir", type=Path, default=Path("output/inference"), help="folder for the results")
    output.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=DEFAULT_FORMATS, metavar="FORMAT", help=", ".join(FORMATS)
    )
    output.add_argument(
        "--origin", choices=ORIGINS, default="bounds", help="where GeoJSON counts from (bounds: QuPath)"
    )
    output.add_argument("--anonymize", action="store_true", help="neutral names for slides and patients, in all files")
    output.add_argument("--key", type=Path, metavar="CSV", help="with --anonymize: write which name is whose there")
    detection = parser.add_argument_group("detection")
    detection.add_argument("--model", "--checkpoint", default=BUNDLED, help="a detector: its file or its name")
    for one in fields(SearchOptions):
        detection.add_argument(f"--{one.name.replace('_', '-')}", default=one.default, **one.metadata)
    speed = parser.add_argument_group("speed")
    speed.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model (docs/speed.md)")
    speed.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: cuda where there is one")
    speed.add_argument(
        "--workers", type=count, help="slides at a time, each with its model (default: 0, in this process)"
    )
    add_run_options(speed)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    options = SearchOptions(**{one.name: getattr(args, one.name) for one in fields(SearchOptions)})
    check_writable(args.output_dir)
    found = find_slides(args.slides)
    files, classes = annotated_as(found, args.evaluate, args.class_map, args.output_dir)
    files = name_slides(files, args.output_dir, anonymize=args.anonymize, key=args.key)
    workers = args.workers if args.engine == "ray" else args.workers or 0
    local_workers = workers or 0 if args.engine == "local" else 0
    device = resolve_device(args.device, here=args.engine == "local")
    check_model(path := find_model(args.model), args.backend)
    model = ModelFile.of(load_model, path, device, local_workers, backend=args.backend)
    search = SearchSpec(model, options)
    outputs = OutputSpec(args.output_dir.absolute(), in_order(args.formats), args.origin)
    jobs = [SlideJob.of(file, search, outputs, mpp=args.mpp) for file in files]
    where = {"engine": args.engine, "address": args.address, "limit_s": args.limit_s}
    scoring = {"classes": classes, "max_misplaced": args.max_misplaced}
    outcomes, num_skipped = search_slides(jobs, workers, **where)
    evaluation = None
    try:  # first the files, whoever listens to what is printed
        if args.evaluate:
            with exclusive_use(args.output_dir):
                evaluation = evaluate_search(outcomes, args.output_dir, **scoring)
    finally:
        code = report_search(outcomes, num_skipped, args.output_dir, display_name(args.model, path))
    return code if evaluation is None else max(code, evaluation.report())


if __name__ == "__main__":
    run_main(main)
