"""Time the cutting of one slide into tiles, side by side with other ways to do it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from preprocess.base.arguments import count, mpp, positive, share, whole_number
from preprocess.base.console import EXIT_OK, command_parser, run_main
from preprocess.base.files import write_json
from preprocess.base.geometry import px_to_l0
from preprocess.slides.slide import Slide
from tools.benchmarks.contestants.measure import SCRIPTS, measure, summary
from tools.benchmarks.contestants.ours import tissue_places

EXAMPLES = """
Every contestant is a process of its own and is timed from its start to its end; they take turns.
Tiles per second count the tiles that it wrote: dzsave writes the glass too, the others tissue only.
The memory is that of its largest process.

Contestants: ours; naive (OpenSlide and Pillow); direct (the ceiling: bare decoding and encoding), and
half (the same, decoded at half size); pairs (tools/make_tiles.py, teacher and student, with labels);
dzsave and hs2p where an interpreter that has pyvips or hs2p is named.

Examples:
  python -m tools.benchmarks.tiling slide.svs
  python -m tools.benchmarks.tiling slide.svs --pyvips-python venv/bin/python --output-json speed.json
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("slide", type=Path, help="a slide with JPEG tiles, 0.25 um/px for whole factors")
    parser.add_argument("--workers", type=count, default=2, help="processes or threads of each contestant")
    parser.add_argument("--repeats", type=positive, default=3, help="how often each contestant has its turn")
    parser.add_argument("--mpp", type=mpp, default=0.5, help="um/px of the tiles")
    parser.add_argument("--tile-px", type=positive, default=1024, help="side of a tile in pixels")
    parser.add_argument("--quality", type=whole_number(1, 100), default=90, help="JPEG quality of the tiles")
    parser.add_argument("--min-tissue", type=share, default=0.1, help="tissue that a tile needs")
    parser.add_argument("--student-mpp", type=mpp, default=2.0, help="um/px of the student's tiles in pairs")
    parser.add_argument("--pyvips-python", type=Path, help="interpreter that has pyvips")
    parser.add_argument("--hs2p-python", type=Path, help="interpreter that has hs2p")
    parser.add_argument("--hs2p-backend", default="auto", help="reader that hs2p is to use")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants to run (default: all)")
    parser.add_argument("--output-json", type=Path, help="file for the figures")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    job = {key: getattr(args, key) for key in ("workers", "mpp", "tile_px", "quality", "min_tissue", "hs2p_backend")}
    job |= {"slide": str(args.slide.absolute()), "student_mpp": args.student_mpp}
    with Slide.open(args.slide) as slide:
        job["places"] = [(int(place.x), int(place.y)) for place in tissue_places(slide, job)]
        job["side_l0"] = px_to_l0(args.tile_px, args.mpp, slide.mpp)
    commands: dict[str, list[Any]] = {name: [sys.executable, f"{name}.py"] for name in ("ours", "naive", "direct")}
    commands |= {"half": [sys.executable, "direct.py", "half"], "pairs": [sys.executable, "pairs.py"]}
    commands |= {"dzsave": [args.pyvips_python, "vips_dzsave.py"], "hs2p": [args.hs2p_python, "hs2p_tiles.py"]}
    commands = {name: c for name, c in commands.items() if c[0] and (not args.only or name in args.only)}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(args.repeats):
        for name, (python, script, *options) in commands.items():
            runs[name].append(measure(name, [python, SCRIPTS / script], options, job))
    figures = {name: summary(turns) for name, turns in runs.items()}
    print("| | tiles | seconds | tiles/s (lowest-highest) | CPU s | peak MB | ours is faster by |\n" + "|---" * 7 + "|")
    for name, row in figures.items():
        row["ours_ratio"] = figures.get("ours", row)["tiles_per_s"] / row["tiles_per_s"]
        speed = "{tiles_per_s:.1f} ({lowest:.1f}-{highest:.1f})".format(**row)
        print(
            f"| {name} | {row['tiles']:.0f} | {row['seconds']:.2f} | {speed} "
            f"| {row['cpu_s']:.1f} | {row['peak_mb']:.0f} | {row['ours_ratio']:.2f} |"
        )
    if args.output_json:
        write_json(args.output_json, {"job": job | {"slide": args.slide.name}, "figures": figures, "runs": runs})
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
