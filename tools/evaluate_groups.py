"""Score a detector on annotated slides or images, group by group: by source, by stain, by any column of the table."""

from __future__ import annotations

import argparse
from pathlib import Path

from mhkd.deploy.detector import choose_threshold, describe_detector
from mhkd.deploy.load import load_model
from mhkd.deploy.registry import BUNDLED
from mhkd.evaluation.slide_level import evaluate_groups
from mhkd.inference.predictor import SlidePredictor
from preprocess.annotations.class_map import ClassMap
from preprocess.base.arguments import share
from preprocess.base.console import command_parser, run_main
from preprocess.base.errors import UserError
from preprocess.base.files import write_csv, write_json
from preprocess.slides.table import read_slides_csv
from preprocess.tiles.placement import MAX_MISPLACED

EXAMPLES = """
All classes of the annotations count as the one class that the model knows. Every row of the table is scored, whatever
its split; --only picks rows. The threshold is the model's own, so that nothing is chosen on what is scored.

Examples:
  # how does the bundled model do on my stains?
  mhkd evaluate-groups slides.csv --by stain --output-dir output/stains

  # two sources of a larger table
  mhkd evaluate-groups slides.csv --by source stain --only source=neptune source=hubmap16 \\
      --output-dir output/real
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("slides", type=Path, help="the cohort table, with annotations")
    parser.add_argument("--by", nargs="+", required=True, metavar="COLUMN", help="columns whose values make the groups")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="COLUMN=VALUE",
        help="rows to score; values of one column are alternatives",
    )
    parser.add_argument("--model", default=BUNDLED, help="a detector of one class: its file or its name")
    parser.add_argument("--score-thresh", type=share, help="what counts as found (default: the model's own)")
    parser.add_argument(
        "--max-misplaced", type=share, default=MAX_MISPLACED, help="share of outlines off the slide or on glass; 1: any"
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for groups.csv and groups.json")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: cuda where there is one")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    used = [*args.by, *(text.partition("=")[0] for text in args.only)]
    slides = read_slides_csv(args.slides, for_training=False, used=used)
    wanted: dict[str, list[str]] = {}
    for text in args.only:
        column, equals, value = text.partition("=")
        if not equals or column not in slides:
            raise UserError(f"--only {text}: no column {column!r}", path=args.slides, remedy="give COLUMN=VALUE")
        wanted.setdefault(column, []).append(value)
    for column, values in wanted.items():
        slides = slides[slides[column].isin(values)]
    detector = load_model(args.model, device=args.device)
    if len(detector.class_names) != 1:
        raise UserError("the model knows several classes", path=args.model, remedy="use mhkd evaluate")
    chosen = detector.provenance.get("score_thresh_origin")
    thresh, origin = choose_threshold(args.score_thresh, detector.score_thresh, chosen)
    classes = ClassMap.choose(None, detector.class_names[0])
    groups, best = evaluate_groups(
        SlidePredictor(detector).predict, slides, args.by, detector.class_names, classes, thresh, args.max_misplaced
    )
    write_csv(args.output_dir / "groups.csv", groups.round(1))
    record = {"model": describe_detector(detector), "score_thresh": thresh, "score_thresh_origin": origin}
    write_json(args.output_dir / "groups.json", record | {"best_score_thresh_on_all": best})
    print(groups.round(1).to_string(index=False))
    print(f"at a score of {thresh:.3g} ({origin}); tables in {args.output_dir}")
    return 0


if __name__ == "__main__":
    run_main(main)
