"""Cut whole slides into aligned teacher and student tiles, with boxes and a manifest."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from preprocess.console import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL, HelpFormatter, run_main
from preprocess.manifest import Manifest, read_slides_csv
from preprocess.readers.tiff import READER_VARIABLE, READERS
from preprocess.splits import parse_fractions
from preprocess.tile_pairs import PairSpec
from preprocess.tile_set import SlideOutcome, plan_jobs, tile_slides, write_manifest

EXAMPLES = """
The table has the columns slide and annotation (GeoJSON), and may have mpp (um per level-0 pixel),
patient and split (train, val, test). Paths are relative to the table's folder.

A box bounds what of an object lies in the tile. With less than --min-visible of the object in the
tile it is to be ignored, below 10 % it is left out. Overlap and --keep-empty apply to train only:
val and test get the plain grid and every tile with tissue.

Finished slides are skipped when the command runs again.

Examples:
  python tools/make_tiles.py slides.csv --output-dir tiles
  python tools/make_tiles.py slides.csv --output-dir tiles --teacher-mpp 0.5 --student-mpp 4 --merge-labels Glomerulus
  python tools/make_tiles.py slides.csv --output-dir tiles --split 0.8/0.2/0 --workers 8

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
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="use only objects of these classes (default: all)")
    parser.add_argument("--merge-labels", metavar="NAME", help="give all objects this one class")
    parser.add_argument("--split", default="0.7/0.15/0.15", help="train/val/test by patient, if the table has no split")
    parser.add_argument("--seed", type=int, default=default.seed, help="for the split and the choice of empty tiles")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="slides or, if fewer, tiles at a time")
    parser.add_argument("--reader", choices=READERS, help="how to get pixels (default: $MHKD_READER, else auto)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.reader:
        os.environ[READER_VARIABLE] = args.reader  # the workers inherit it
    names = ("teacher_mpp", "student_mpp", "tile_px", "overlap", "min_tissue", "min_visible", "keep_empty", "seed")
    jobs = plan_jobs(
        read_slides_csv(args.slides_csv),
        args.output_dir,
        PairSpec(**{name: getattr(args, name) for name in names}),
        fractions=parse_fractions(args.split),
        labels=tuple(args.labels) if args.labels else None,
        merged_label=args.merge_labels,
    )
    outcomes, num_skipped = tile_slides(jobs, args.workers)
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        print(f"failed: {outcome.item.name}: {outcome.error}", file=sys.stderr)
    if len(failed) == len(outcomes):
        return EXIT_ERROR
    manifest = write_manifest(outcomes, args.output_dir)
    print(f"{len(outcomes) - len(failed) - num_skipped} slides done, {num_skipped} skipped, {len(failed)} failed")
    print_summary(manifest, outcomes)
    return EXIT_PARTIAL if failed else EXIT_OK


def print_summary(manifest: Manifest, outcomes: Sequence[SlideOutcome]) -> None:
    records = [outcome.value for outcome in outcomes if outcome.value is not None]
    for split, tiles in manifest.tiles.groupby("split", sort=False):
        boxes = manifest.boxes[manifest.boxes["tile_id"].isin(tiles["tile_id"])]
        counts = ", ".join(f"{label} {n}" for label, n in boxes[~boxes["ignore"]]["label"].value_counts().items())
        patients = tiles["patient"].nunique()
        print(f"  {split}: {patients} patients, {tiles['slide'].nunique()} slides, {len(tiles)} tiles, boxes: {counts}")
    origins = Counter(record["mpp_source"] for record in records)
    print("  mpp: " + ", ".join(f"{source} ({count} slides)" for source, count in origins.items()))
    dropped: Counter[str] = sum((Counter(record["dropped_labels"]) for record in records), Counter())
    if dropped:
        print("  labels left out: " + ", ".join(f"{label} {count}" for label, count in dropped.items()))
    coarse = manifest.tiles[manifest.tiles["slide_mpp"] > 1.1 * manifest.teacher_mpp]["slide"].nunique()
    if coarse:
        print(f"  warning: {coarse} slides are coarser than the teacher's {manifest.teacher_mpp:g} um/px: up-sampled")


if __name__ == "__main__":
    run_main(main)
