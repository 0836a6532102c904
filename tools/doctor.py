"""Say what works on this machine, and what is missing for what; `make setup` ends with it."""

from __future__ import annotations

import argparse

from mhkd.doctor import examine
from preprocess.base.console import EXIT_ERROR, EXIT_OK, command_parser, run_main
from preprocess.base.errors import printable

EXAMPLES = """
Exit code: 0 where slides can be searched and models trained, whatever else is missing; 1 where not.

Examples:
  mhkd doctor
"""


def build_parser() -> argparse.ArgumentParser:
    return command_parser(__doc__, EXAMPLES)


def main(argv: list[str] | None = None) -> int:
    build_parser().parse_args(argv)
    faults = 0
    for finding in examine():
        print(printable(str(finding)), flush=True)
        faults += finding.is_fault
    return EXIT_ERROR if faults else EXIT_OK


if __name__ == "__main__":
    run_main(main)
