"""Time whole-slide inference against the model alone, other models and SAHI; count memory and bytes read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from mhkd.deploy.load import BACKENDS
from mhkd.inference.predictor import SlidePredictor
from preprocess.base.arguments import positive, share
from preprocess.base.console import EXIT_OK, command_parser, run_main
from preprocess.base.files import write_json
from tools.benchmarks.contestants import whole_slide

EXAMPLES = """
All contestants take turns in this one process; the figures are medians, after one turn to warm up.
"whole" is a slide from opening it to merged detections, "model" the same tiles, already in memory, through the model,
"one-by-one" these through the model as Detectron2 runs it, one after another on all threads.
"sahi" slices the slide, read whole, as SAHI does, with the checkpoint as training exported it and tiles as in training;
"sahi+" the same through our frozen graphs. The memory is that of tools/infer_wsi.py in a process of its own.

Examples:
  python -m tools.benchmarks.inference slide.svs --model teacher=teacher.pth --model student=student.pth
  python -m tools.benchmarks.inference slide.svs --model student.pth --sahi --annotation slide.geojson --bytes --memory
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("slide", type=Path, help="a slide that states its pixel size")
    parser.add_argument("--model", action="append", required=True, metavar="[NAME=]MODEL", help="may be repeated")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the models")
    parser.add_argument("--repeats", type=positive, default=3, help="how often each contestant has its turn")
    parser.add_argument("--threads", type=positive, help="threads of torch (default: one a core)")
    parser.add_argument("--tile-px", type=positive, help="side of the tiles (default: what each model asks for)")
    parser.add_argument("--overlap", type=share, help="of the tiles, as a share of their side (default: 256 um)")
    parser.add_argument("--batch-size", type=positive, default=1, help="tiles per step of the model")
    parser.add_argument(
        "--annotation", type=Path, help="outlines of the slide's objects, for the AP of each contestant"
    )
    parser.add_argument("--sahi", action="store_true", help="run SAHI (pip install sahi) with the last model, a .pth")
    parser.add_argument("--bytes", action="store_true", help="count bytes read at 10x and 2.5x, by both readers")
    parser.add_argument("--memory", action="store_true", help="measure the peak memory with each model")
    parser.add_argument("--output-json", type=Path, help="file for the figures")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    models = {name or Path(path).stem: path for name, _, path in (text.rpartition("=") for text in args.model)}
    turns: dict[str, whole_slide.Turn] = {}
    for name, path in models.items():
        predictor = SlidePredictor.from_model(
            path, backend=args.backend, tile_px=args.tile_px, overlap=args.overlap, batch_size=args.batch_size
        )
        turns |= {f"{name} {kind}": turn for kind, turn in whole_slide.turns_of(predictor, args.slide).items()}
    if args.sahi:
        from tools.benchmarks.contestants.sahi_slices import turns_of_sahi

        turns |= turns_of_sahi(args.slide, *list(models.items())[-1])
    costs, found = whole_slide.interleave(turns, args.repeats)
    scores = {
        name: whole_slide.average_precision(args.slide, args.annotation, result)
        for name, result in found.items()
        if args.annotation
    }
    print("| | seconds | CPU s | x model alone | AP | AP50 | AP75 |\n" + "|---" * 7 + "|")
    for name in turns:
        model = name.rpartition(" ")[0]
        print(whole_slide.row(name, costs[name], costs[f"{model} model"], scores.get(name, {})))
    figures: dict[str, Any] = {"costs": costs, "scores": scores, "threads": torch.get_num_threads()}
    if args.bytes:
        figures["bytes"] = {
            reader: {f"{mpp:g}": whole_slide.bytes_read(args.slide, mpp, reader) for mpp in (1.0, 4.0)}
            for reader in ("openslide", "tiff")
        }
        for reader, counts in figures["bytes"].items():
            share = counts["1"] / counts["4"]
            print(f"bytes read by {reader}: {counts['1']:,} at 10x, {counts['4']:,} at 2.5x: 1/{share:.1f}")
        figures["bytes"]["stored"] = whole_slide.bytes_stored(args.slide)
        print("bytes of whole levels:", *(f"{n:,} at {mpp} um/px" for mpp, n in figures["bytes"]["stored"].items()))
    if args.memory:
        figures["peak_mb"] = {
            name: whole_slide.peak_mb(args.slide, path, ["--backend", args.backend]) for name, path in models.items()
        }
        print(*(f"peak memory with {name}: {size:.0f} MB" for name, size in figures["peak_mb"].items()), sep="\n")
    if args.output_json:
        write_json(args.output_json, {"slide": args.slide.name, **figures})
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
