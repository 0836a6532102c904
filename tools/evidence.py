"""Keep finished runs of controls as rows of a CSV, and show such a table as Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path

from mhkd.ablation.evidence import add_evidence, evidence_markdown, evidence_rows, read_evidence
from preprocess.base.console import EXIT_OK, command_parser, run_main

EXAMPLES = """
Examples:
  mhkd evidence add output/controls --csv evidence.csv
  mhkd evidence show --csv evidence.csv

A row of the same control, seed, iterations, slides and um/px is replaced.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("action", choices=("add", "show"), help="add runs to the table, or only show it")
    parser.add_argument("folders", type=Path, nargs="*", help="output folders of mhkd ablate")
    parser.add_argument("--csv", type=Path, required=True, help="the table")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.action == "add") != bool(args.folders):
        parser.error("give folders to add, and none to show")
    table = add_evidence(args.csv, evidence_rows(args.folders)) if args.folders else read_evidence(args.csv)
    print(evidence_markdown(table), end="")
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
