"""Time the iterations of distillation, phase by phase, as a ratio to what they cannot do without."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from mhkd.config import read_config
from mhkd.deploy.detector_file import resolve_device
from mhkd.engine.run_config import fit_to_data
from mhkd.engine.trainer import Trainer
from mhkd.weights import write_checkpoint
from preprocess.base.arguments import count, positive
from preprocess.base.console import EXIT_OK, command_parser, progress, run_main
from preprocess.base.files import write_json, write_text
from preprocess.tiles.manifest import Manifest
from tools.benchmarks.random_pairs import write_random_pairs
from tools.benchmarks.speed import PHASES, measure_loading, measure_phase, named_phases

EXAMPLES = """
The floor of a phase is the teacher's pyramid without a gradient and the student's forward and backward pass with its
own losses. Phase and floor take turns in one process, with the same weights, batches and optimiser; the ratio is the
median over the turns, in brackets its quartiles, then the ratio of processor time, which other processes disturb less.
Memory is the peak of the process, on a GPU that of its tensors. Weights are random unless a teacher is named.

Phases: those of the method; all losses at once (joint); a teacher head that learns (mutual); other feature losses
(adaptive-mse ...) and alignments (semantic-iou ...).

Examples:
  python -m tools.benchmarks.training
  python -m tools.benchmarks.training --phases adaptive adaptive-cwd adaptive-fgd --upsample 4 --threads 1
  python -m tools.benchmarks.training --tiles output/demo/tiles \\
      --teacher output/demo/teacher/detector.pth --data 0 1 2
  python -m tools.benchmarks.training --config-file configs/native/distill.yaml --upsample 1 \\
      --tiles output/native/tiles --teacher output/native/teacher/detector.pth \\
      MODEL.WEIGHTS output/native/distill/detector.pth
  python -m tools.benchmarks.training --config-file configs/resnet50/distill.yaml --tile-px 1024 --batch-size 8 \\
      --device cuda --precision float16 --output-json speed.json --output-md speed.md
"""
METHOD = ["basic", "adaptive", "local", "semantic", "joint", "mutual"]
Row = dict[str, Any]
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("--config-file", default="configs/demo/distill.yaml", help="of a distillation")
    parser.add_argument("--teacher-config", help="(default: teacher.yaml beside the config file)")
    parser.add_argument("--teacher", help="detector.pth of a teacher; student and teacher start from it")
    parser.add_argument("--tiles", help="folder written by make_tiles.py (default: random tile pairs)")
    parser.add_argument("--tile-px", type=positive, default=256, help="side of the random teacher tiles")
    parser.add_argument("--scale", type=positive, default=4, help="how much smaller the random student tiles are, s")
    parser.add_argument("--batch-size", type=positive, default=4, help="tile pairs in an iteration")
    parser.add_argument("--iterations", type=positive, default=30, help="turns of each side")
    parser.add_argument("--phases", nargs="+", default=METHOD, choices=list(PHASES), metavar="NAME", help="which")
    parser.add_argument("--upsample", nargs="+", type=positive, metavar="U", help="(default: 1, 2 and s)")
    parser.add_argument(
        "--data", nargs="+", type=count, default=[], metavar="N", help="time loading with N processes instead"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: cuda where there is one")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of the networks")
    parser.add_argument("--threads", type=positive, help="of torch (default: torch's own)")
    parser.add_argument("--output-json", type=Path, help="file for the figures")
    parser.add_argument("--output-md", type=Path, help="file for the table")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="overrides, best after --")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        cfg, factors = configuration(args, Path(folder))
        total = len(args.phases) * len(factors) * max(len(args.data), 1)
        measured = measure_all(cfg, args.phases, factors, args.iterations, args.data)
        rows = list(progress(measured, total=total, description="training speed", unit="row"))
    table = markdown(rows)
    print(table)
    if args.output_md:
        write_text(args.output_md, table + "\n")
    if args.output_json:
        job = {key: value for key, value in vars(args).items() if not key.startswith("output_")}
        write_json(args.output_json, {"job": job | {"threads": torch.get_num_threads()}, "rows": rows})
    return EXIT_OK


def configuration(args: argparse.Namespace, folder: Path) -> tuple[CfgNode, list[int]]:
    """The step to measure, and its up-sampling factors; what is not given is made in ``folder``."""
    if not args.tiles:
        write_random_pairs(folder / "tiles", 4 * args.batch_size, tile_px=args.tile_px, scale=args.scale)
    manifest = Manifest.read(args.tiles or folder / "tiles")
    settings = ["MODEL.MHKD.PRECISION", args.precision, "MODEL.DEVICE", resolve_device(args.device), "SEED", 1]
    settings += ["MODEL.WEIGHTS", args.teacher or "", *args.overrides]
    settings += ["DATASETS.TILES", str(manifest.root), "SOLVER.IMS_PER_BATCH", args.batch_size]
    settings += ["MODEL.MHKD.TEACHER.WEIGHTS", args.teacher or ""]
    cfg = fit_to_data(read_config(args.config_file, settings), manifest)
    if not args.teacher:
        config = args.teacher_config or Path(args.config_file).with_name("teacher.yaml")
        name_random_teacher(cfg, fit_to_data(read_config(config, settings), manifest), folder)
    return cfg, args.upsample or sorted({1, 2, round(manifest.student_mpp / manifest.teacher_mpp)})


def measure_all(
    cfg: CfgNode, names: Sequence[str], factors: Sequence[int], iterations: int, workers: Sequence[int] = ()
) -> Iterator[Row]:
    """One row for each phase and factor u: of its speed, or, where ``workers`` are given, of its loading.

    Args:
        cfg: a distillation step with its tiles and its teacher.
        names: of :data:`tools.benchmarks.speed.PHASES`.
        workers: numbers of loading processes to compare.
    """
    for factor in factors:
        scaled = cfg.clone()
        scaled.defrost()
        scaled.MODEL.MHKD.UPSAMPLE = factor
        for name, phase in named_phases(scaled, names):
            what = {"phase": name, "upsample": factor}
            if not workers:
                yield what | measure_phase(phase, iterations)
            for row in measure_loading(phase, workers, iterations) if workers else ():
                yield what | row


def name_random_teacher(cfg: CfgNode, teacher_cfg: CfgNode, folder: Path) -> None:
    """Make the teacher of ``cfg`` one with the random weights of ``teacher_cfg``, kept in ``folder``."""
    write_checkpoint(folder / "teacher.pth", {"model": Trainer.build_model(teacher_cfg).state_dict()})
    (folder / "teacher.yaml").write_text(teacher_cfg.dump(), encoding="utf-8")
    cfg.defrost()
    cfg.MODEL.MHKD.TEACHER.CONFIG_FILE = str(folder / "teacher.yaml")
    cfg.MODEL.MHKD.TEACHER.WEIGHTS = str(folder / "teacher.pth")


def markdown(rows: Sequence[Row]) -> str:
    """A line for each phase (and number of workers) with columns for each factor u."""
    if "workers" in rows[0]:
        heads, columns = ("s", "waits ms (share)", "images/s", "first batch s"), _loading
    else:
        heads, columns = ("s", "of the floor", "images/s", "MB (floor)"), _speed
    factors = list(dict.fromkeys(row["upsample"] for row in rows))
    lines: dict[str, list[str]] = {}
    for row in rows:
        name = row["phase"] + (f", {row['workers']} workers" if "workers" in row else "")
        lines.setdefault(name, []).extend(columns(row))
    titles = [f"u = {factor}: {head}" for factor in factors for head in heads]
    table = [["", *titles], ["---"] * (len(titles) + 1), *([name, *cells] for name, cells in lines.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _speed(row: Row) -> list[str]:
    low, high = row["quartiles"]
    memory = "-" if row["peak_mb"] is None else f"{row['peak_mb']:.0f} ({row['floor_peak_mb']:.0f})"
    ratio = f"{row['ratio']:.3f} [{low:.3f}-{high:.3f}], cpu {row['cpu_ratio']:.3f}"
    return [f"{row['seconds']:.3f}", ratio, f"{row['images_per_s']:.1f}", memory]


def _loading(row: Row) -> list[str]:
    waiting = f"{row['waiting_ms']:.1f} ({row['waiting_share']:.1%})"
    return [f"{row['seconds']:.3f}", waiting, f"{row['images_per_s']:.1f}", f"{row['start_s']:.2f}"]


if __name__ == "__main__":
    run_main(main)
