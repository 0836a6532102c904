"""Check that torch, torchvision's operators, Detectron2 and OpenSlide work together; `make setup` ends with it."""

from __future__ import annotations

import argparse
import logging

from mhkd.verify import verify
from preprocess.base.console import HelpFormatter, run_main


def build_parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=__doc__, epilog="Examples:\n  python tools/verify_install.py", formatter_class=HelpFormatter
    )


def main(argv: list[str] | None = None) -> int:
    build_parser().parse_args(argv)
    logging.disable(logging.WARNING)  # torch's advice to its own developers
    for line in verify():
        print(f"works: {line}")
    return 0


if __name__ == "__main__":
    run_main(main)
