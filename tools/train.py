"""Train a detector (teacher, baseline) or distil one into a student of low magnification."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mhkd.config import read_config
from mhkd.deploy.detector_file import load_detector, resolve_device
from mhkd.engine.launch import launch_training
from mhkd.evaluation.tile_level import evaluate_tiles
from preprocess.base.arguments import count, positive, seed
from preprocess.base.console import EXIT_OK, command_parser, run_main
from preprocess.slides.table import SPLITS
from preprocess.tiles.manifest import Manifest

EXAMPLES = """
examples:
  # the high-magnification teacher
  mhkd train --config-file configs/demo/teacher.yaml --tiles data/tiles --output-dir output/teacher

  # the distillation, started from the teacher's weights, up to the end of its first step
  mhkd train --config-file configs/demo/distill.yaml --tiles data/tiles --output-dir output/distill \\
      --teacher output/teacher/detector.pth --init output/teacher/detector.pth --until-step 1

  # the same run to its end: without --until-step it goes on where it was
  mhkd train --config-file configs/demo/distill.yaml --tiles data/tiles --output-dir output/distill \\
      --teacher output/teacher/detector.pth --init output/teacher/detector.pth

  # two machines of four GPUs, which share the output folder; on the second one --machine-rank 1
  mhkd train ... --num-gpus 4 --num-machines 2 --machine-rank 0 --dist-url tcp://10.0.0.1:29500

  # any key of the configuration can be overridden at the end
  mhkd train ... SOLVER.MAX_ITER 2000 SOLVER.BASE_LR 0.01

An interrupted run goes on where it was when the same command is given again.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    source = parser.add_argument_group("input")
    source.add_argument("--config-file", required=True, help="YAML configuration, see configs/")
    source.add_argument("--tiles", required=True, help="folder written by mhkd tiles")
    source.add_argument("--init", help="weights to start from: a detector.pth or a model-zoo backbone")
    source.add_argument("--teacher", help="detector.pth of the teacher (distillation)")
    source.add_argument("--pseudo-labels", metavar="FOLDER", help="from mhkd pseudo-labels, for unlabelled slides")
    output = parser.add_argument_group("output")
    output.add_argument("--output-dir", required=True, help="folder for checkpoints, logs and detector.pth")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--until-step", type=positive, metavar="N", help="stop after this training step (default: the last)"
    )
    training.add_argument("--eval-only", action="store_true", help="score detector.pth of the output folder, or --init")
    training.add_argument("--eval-split", default="test", choices=SPLITS, help="which tiles --eval-only takes")
    training.add_argument("--seed", type=seed, default=1, help="seed of everything random")
    training.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="configuration overrides")
    speed = parser.add_argument_group("speed")
    speed.add_argument("--device", default="auto", help="cpu, cuda, or auto: cuda where there is one")
    speed.add_argument(
        "--num-gpus", type=positive, default=1, metavar="N", help="processes on each machine, one a GPU, or on its CPU"
    )
    speed.add_argument("--num-machines", type=positive, default=1, metavar="N", help="machines that train together")
    speed.add_argument("--machine-rank", type=count, default=0, metavar="N", help="number of this machine, from 0 on")
    speed.add_argument("--dist-url", default="auto", help="where machines meet, such as tcp://10.0.0.1:29500")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    overrides = ["DATASETS.TILES", args.tiles, "OUTPUT_DIR", args.output_dir, "SEED", str(args.seed)]
    overrides += ["MODEL.DEVICE", resolve_device(args.device)]
    overrides += ["MODEL.WEIGHTS", args.init] if args.init else []
    overrides += ["MODEL.MHKD.TEACHER.WEIGHTS", args.teacher] if args.teacher else []
    overrides += ["DATASETS.PSEUDO_LABELS", args.pseudo_labels] if args.pseudo_labels else []
    cfg = read_config(args.config_file, [*overrides, *args.overrides])
    if args.eval_only:
        detector = load_detector(args.init or Path(args.output_dir) / "detector.pth", cfg.MODEL.DEVICE)
        print(json.dumps(evaluate_tiles(detector, Manifest.read(args.tiles), args.eval_split), indent=1))
        return EXIT_OK
    result = launch_training(
        cfg,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        until_step=args.until_step,
    )
    print(f"finished: {result}")
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
