"""Read damaged annotations and slides of every format; each must be refused in one clear line, or read correctly."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import cv2

from preprocess.base.arguments import amount, positive, seed
from preprocess.base.console import EXIT_ERROR, EXIT_OK, command_parser, progress, run_main
from tests.fuzzing import OUTCOMES, all_seeds, mutate, read_apart

EXAMPLES = """
Every case is read in a process of its own with a limit of time and memory. A case has a number; the same
seed, format and number give the same bytes on every machine.

Examples (from the root of the repository):
  python -m tools.dev.fuzz_inputs --cases 300
  python -m tools.dev.fuzz_inputs --formats asap slide-svs --cases 1000 --seed 7 --keep failures

Exit code: 0 all cases were right, 1 some were not.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("--cases", type=positive, default=100, help="damaged files per format")
    parser.add_argument("--seed", type=seed, default=0, help="another seed gives other cases")
    parser.add_argument("--formats", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--seconds", type=amount, default=20, help="processor time that a case may take")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where files go that were not read right")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    # Children are forked, and threads do not survive that.
    cv2.setNumThreads(1)
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        seeds = all_seeds(Path(folder))
        chosen = {name: seeds[name] for name in args.formats or seeds}
        bar = progress((), total=args.cases * len(chosen), description="damaged files", unit="file")
        for name, (seed_file, check) in chosen.items():
            counts[name] = Counter()
            path = Path(folder) / f"slide.{name.rpartition('-')[2]}"
            for number in range(args.cases):
                path.write_bytes(mutate(seed_file, random.Random(f"{args.seed}:{name}:{number}")))
                outcome, reason = read_apart(check, path, args.seconds)
                counts[name][outcome] += 1
                if outcome not in OUTCOMES[:2]:
                    bar.write(f"{name} {number}: {outcome}: {reason}", file=sys.stderr)
                    if args.keep:
                        args.keep.mkdir(parents=True, exist_ok=True)
                        (args.keep / f"{name}-{args.seed}-{number}{path.suffix}").write_bytes(path.read_bytes())
                bar.update()
        bar.close()
    return report(counts)


def report(counts: dict[str, Counter[str]]) -> int:
    """Print what became of the cases of each format, and of all; the exit code."""
    total: Counter[str] = sum(counts.values(), Counter())
    print(f"{'format':14}" + "".join(f"{outcome:>11}" for outcome in ("cases", *OUTCOMES)))
    for name, row in {**counts, "all": total}.items():
        print(f"{name:14}{row.total():11}" + "".join(f"{row[outcome]:11}" for outcome in OUTCOMES))
    return EXIT_OK if total.total() == sum(total[outcome] for outcome in OUTCOMES[:2]) else EXIT_ERROR


if __name__ == "__main__":
    run_main(main)
