"""Cut whole slides into aligned teacher and student tiles, with boxes and a manifest."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from preprocess.base.arguments import count
from preprocess.base.console import command_parser, report, run_main
from preprocess.base.files import exclusive_use
from preprocess.jobs.job_result import failures
from preprocess.jobs.run import add_run_options, run_cohort
from preprocess.slides.readers.tiff import READER_VARIABLE, READERS
from preprocess.slides.table import read_slides_csv
from preprocess.tiles.dry_run import dry_run_lines, dry_run_slide
from preprocess.tiles.options import add_tile_options, parse_tile_options, read_classes, read_spec
from preprocess.tiles.splits import parse_fractions
from preprocess.tiles.summary import summary_lines, write_summary
from preprocess.tiles.tile_set import parse_shard, plan_jobs, report_removed_slides, tile_slides, write_manifest

EXAMPLES = """
The table has the columns slide and annotation (formats: docs/annotations.md), and may have mpp (um per level-0 pixel),
patient, split (train, val, test), origin (slide, bounds) of the annotations, and student_slide, student_mpp and
student_transform: a low-resolution scan of the same glass (docs/slides.md). Paths are relative to the table's folder.

A box bounds what of an object lies in the tile. With less than --min-visible of the object in the tile, or a side below
--min-box-px, it is to be ignored; below --min-ignored it is left out. --class-map has lines  class: our name | ignore |
drop ; '*' stands for all others. Overlap, --keep-empty and --empty-ratio apply to train only: val and test get all.
Finished slides are skipped. Beside the manifest: splits.csv, masks/, summary.csv, summary.html. For clusters:
docs/scale.md.

Examples:
  mhkd tiles slides.csv --output-dir tiles --split 0.8/0.2/0 --workers 8 --dry-run
  mhkd tiles slides.csv --output-dir tiles --options-file configs/demo/tiles.yaml
  mhkd tiles slides.csv --output-dir tiles --teacher-mpp 0.5 --student-mpp 4 --merge-labels Glomerulus

Exit code: 0 all slides done, 1 error, 3 some slides failed, 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    source = parser.add_argument_group("input")
    source.add_argument("slides_csv", type=Path, help="table of slides and annotations")
    source.add_argument("--reader", choices=READERS, help="how to get pixels (default: $MHKD_READER, else auto)")
    output = parser.add_argument_group("output")
    output.add_argument("--output-dir", type=Path, required=True, help="folder for the tiles and the manifest")
    output.add_argument("--anonymize", action="store_true", help="neutral names for slides and patients, in all files")
    output.add_argument("--key", type=Path, metavar="CSV", help="with --anonymize: write which name is whose there")
    output.add_argument("--dry-run", action="store_true", help="say what would be cut, and write nothing")
    output.add_argument("--prune", action="store_true", help="remove tiles of slides that left the table")
    add_tile_options(parser)
    speed = parser.add_argument_group("speed")
    speed.add_argument("--workers", type=count, help="slides at a time; 0: in this process (default: all CPUs)")
    add_run_options(speed)
    speed.add_argument("--shard", default="1/1", metavar="I/N", help="cut only the I-th of N parts of the table")
    speed.add_argument("--cache-dir", type=Path, help="local folder: copy each slide there while it is read")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = parse_tile_options(build_parser(), argv)
    if args.reader:
        os.environ[READER_VARIABLE] = args.reader  # the workers inherit it
    jobs = plan_jobs(
        read_slides_csv(args.slides_csv, used=[args.stratify] if args.stratify else []),
        root := args.output_dir,
        read_spec(args),
        fractions=parse_fractions(args.split),
        classes=read_classes(args),
        cache_dir=args.cache_dir,
        fallback_mpp=args.mpp,
        origin=args.annotation_origin,
        stratify=args.stratify,
        anonymize=args.anonymize,
        key=args.key,
    )
    workers = args.workers if args.workers is not None or args.engine == "ray" else os.cpu_count()
    where: dict[str, Any] = {"workers": workers, "engine": args.engine, "address": args.address}
    where["limit_s"] = args.limit_s
    part, parts = parse_shard(args.shard)
    mine = jobs[part - 1 :: parts]
    if args.dry_run:
        dry_runs = run_cohort(dry_run_slide, mine, description="looking at slides", **where)
        return report(dry_run_lines(dry_runs), failures(dry_runs), len(dry_runs))
    with exclusive_use(root, part=f"part-{part}-of-{parts}" if parts > 1 else None, below=["tiles"]):
        report_removed_slides(jobs, root, prune=args.prune)
        results, num_skipped = tile_slides(mine, **where)
        failed = failures(results)
        num_done = len(results) - len(failed) - num_skipped
        try:  # first the files, whoever listens to what is printed
            if parts == 1:
                write_summary(results, root)
                if len(failed) < len(results):
                    write_manifest(results, root)
        finally:
            print(f"{num_done} slides done, {num_skipped} skipped, {len(failed)} failed")
            code = report(summary_lines(results), failed, len(results))
    if parts > 1:
        print(f"part {part} of {parts}: when all are done, the same command without --shard writes the manifest")
    return code


if __name__ == "__main__":
    run_main(main)
