"""Cut whole slides into aligned teacher and student tiles, with boxes and a manifest."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from preprocess.cohort import ENGINES, run_cohort
from preprocess.console import HelpFormatter, report, run_main
from preprocess.forecast import forecast_lines, forecast_slide
from preprocess.manifest import read_slides_csv
from preprocess.outcome import failures
from preprocess.splits import parse_fractions
from preprocess.summary import summary_lines, write_summary
from preprocess.tile_pairs import PairSpec
from preprocess.tile_set import notice_strays, parse_shard, plan_jobs, tile_slides, write_manifest

EXAMPLES = """
The table has the columns slide and annotation (GeoJSON), and may have mpp (um per level-0 pixel),
patient and split (train, val, test). Paths are relative to the table's folder.

A box bounds what of an object lies in the tile. With less than --min-visible of the object in the
tile it is to be ignored, below 10 % it is left out. Overlap, --keep-empty and --empty-ratio apply to
train only: val and test get the plain grid and every tile with tissue.

Finished slides are skipped when the command runs again. Beside the manifest: masks/ shows each slide's
tissue and tiles, summary.csv and summary.html what became of each slide. See docs/scale.md for clusters.

Examples:
  python tools/make_tiles.py slides.csv --output-dir tiles
  python tools/make_tiles.py slides.csv --output-dir tiles --teacher-mpp 0.5 --student-mpp 4 --merge-labels Glomerulus
  python tools/make_tiles.py slides.csv --output-dir tiles --split 0.8/0.2/0 --workers 8 --dry-run

Exit code: 0 all slides done, 1 error, 3 some slides failed, 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=HelpFormatter)
    default = PairSpec()
    parser.add_argument("slides_csv", type=Path, help="table of slides and annotations")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for the tiles and the manifest")
    parser.add_argument("--teacher-mpp", type=float, default=default.teacher_mpp, help="um/px of the teacher's tiles")
    parser.add_argument("--student-mpp", type=float, default=default.student_mpp, help="um/px of the student's tiles")
    parser.add_argument("--tile-px", type=int, default=default.tile_px, help="side of the teacher's tile in pixels")
    parser.add_argument("--overlap", type=float, default=default.overlap, help="fraction shared by neighbours")
    parser.add_argument("--min-tissue", type=float, default=default.min_tissue, help="tissue that an empty tile needs")
    parser.add_argument("--min-visible", type=float, default=default.min_visible, help="visible part of an object")
    parser.add_argument("--keep-empty", type=float, default=default.keep_empty, help="fraction of empty tiles to keep")
    parser.add_argument("--empty-ratio", type=float, default=1.0, help="most empty tiles per tile with an object")
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="use only objects of these classes (default: all)")
    parser.add_argument("--merge-labels", metavar="NAME", help="give all objects this one class")
    parser.add_argument("--split", default="0.7/0.15/0.15", help="train/val/test by patient, if the table has no split")
    parser.add_argument("--seed", type=int, default=default.seed, help="for the split and the choice of empty tiles")
    parser.add_argument("--workers", type=int, help="slides cut at the same time (all CPUs); 0: in this process")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="ray: on a Ray cluster (pip install ray)")
    parser.add_argument("--address", metavar="HOST:PORT", help="the Ray cluster, or auto (one is started here)")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="cut only the I-th of N parts of the table")
    parser.add_argument("--cache-dir", type=Path, help="local folder: copy each slide there while it is read")
    parser.add_argument("--dry-run", action="store_true", help="say what would be cut, and write nothing")
    parser.add_argument("--prune", action="store_true", help="remove tiles of slides that left the table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    root = args.output_dir
    jobs = plan_jobs(
        read_slides_csv(args.slides_csv),
        root,
        PairSpec(**{field.name: getattr(args, field.name) for field in fields(PairSpec)}),
        fractions=parse_fractions(args.split),
        labels=tuple(args.labels) if args.labels else None,
        merged_label=args.merge_labels,
        cache_dir=args.cache_dir,
    )
    workers = args.workers if args.workers is not None or args.engine == "ray" else os.cpu_count()
    where: dict[str, Any] = {"workers": workers, "engine": args.engine, "address": args.address}
    part, parts = parse_shard(args.shard)
    mine = jobs[part - 1 :: parts]
    if args.dry_run:
        forecasts = run_cohort(forecast_slide, mine, description="looking at slides", **where)
        return report(forecast_lines(forecasts), failures(forecasts), len(forecasts))
    notice_strays(jobs, root, prune=args.prune)
    outcomes, num_skipped = tile_slides(mine, **where)
    failed = failures(outcomes)
    try:  # first the files, whoever listens to what is printed
        if parts == 1:
            write_summary(outcomes, root)
            if len(failed) < len(outcomes):
                write_manifest(outcomes, root)
    finally:
        print(f"{len(outcomes) - len(failed) - num_skipped} slides done, {num_skipped} skipped, {len(failed)} failed")
        code = report(summary_lines(outcomes), failed, len(outcomes))
    if parts > 1:
        print(f"part {part} of {parts}: when all are done, the same command without --shard writes the manifest")
    return code


if __name__ == "__main__":
    run_main(main)
