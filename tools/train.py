"""Train a detector (teacher, baseline) or one step of the distillation."""

from __future__ import annotations

import argparse

from mhkd.config import read_config
from mhkd.deploy.detector_file import resolve_device
from mhkd.engine.train import launch_training
from preprocess.base.console import HelpFormatter, run_main

EXAMPLES = """
examples:
  # the high-magnification teacher
  python tools/train.py --config-file configs/demo/teacher.yaml --tiles data/tiles --output-dir output/teacher

  # distillation step 1, started from the teacher's weights
  python tools/train.py --config-file configs/demo/step1.yaml --tiles data/tiles --output-dir output/step1 \\
      --teacher output/teacher/detector.pth --init output/teacher/detector.pth

  # any key of the configuration can be overridden at the end
  python tools/train.py ... SOLVER.MAX_ITER 2000 SOLVER.BASE_LR 0.01

An interrupted run goes on where it was when the same command is given again.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=HelpFormatter)
    parser.add_argument("--config-file", required=True, help="YAML configuration, see configs/")
    parser.add_argument("--tiles", required=True, help="folder written by make_tiles.py")
    parser.add_argument("--output-dir", required=True, help="folder for checkpoints, logs and detector.pth")
    parser.add_argument("--init", help="weights to start from: a detector.pth or a model-zoo backbone")
    parser.add_argument("--teacher", help="detector.pth of the teacher (distillation steps)")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything random")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: cuda where there is one")
    parser.add_argument("--processes", type=int, default=1, help="training processes of this machine, one a GPU")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="configuration overrides")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    overrides = ["DATASETS.TILES", args.tiles, "OUTPUT_DIR", args.output_dir, "SEED", str(args.seed)]
    overrides += ["MODEL.DEVICE", resolve_device(args.device)]
    overrides += ["MODEL.WEIGHTS", args.init] if args.init else []
    overrides += ["MODEL.MHKD.TEACHER.WEIGHTS", args.teacher] if args.teacher else []
    result = launch_training(read_config(args.config_file, [*overrides, *args.overrides]), args.processes)
    print(f"finished: {result}")
    return 0


if __name__ == "__main__":
    run_main(main)
