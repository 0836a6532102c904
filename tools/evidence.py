"""Keep finished runs of controls as rows of a CSV, and make the tables and figures of the documentation from it."""

from __future__ import annotations

import argparse
from pathlib import Path

from mhkd.ablation.evidence import add_evidence, evidence_markdown, evidence_rows, read_evidence
from mhkd.ablation.evidence_pages import outdated_pages, write_pages
from preprocess.base.console import EXIT_ERROR, EXIT_OK, command_parser, run_main
from preprocess.base.files import exclusive_use

EXAMPLES = """
actions:
  add    finished runs below FOLDERS become rows of --csv, and one of the same control, seed, iterations, slides, um/px
         and u is replaced
  show   --csv as Markdown
  write  the tables of README.md and docs/ between <!-- evidence: NAME --> and <!-- end -->, and the figures of
         <!-- evidence figure: NAME -->, from docs/evidence/$NAME.csv; make evidence does it
  check  whether they are what their CSV says; exit code 1 if not

examples:
  mhkd evidence add output/evidence/native output/evidence/upsampled --csv docs/evidence/$NAME.csv
  mhkd evidence show --csv docs/evidence/$NAME.csv
  mhkd evidence write
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("action", choices=("add", "show", "write", "check"), help="see below")
    parser.add_argument("folders", type=Path, nargs="*", help="output folders of mhkd ablate")
    parser.add_argument("--csv", type=Path, help="the table")
    parser.add_argument("--root", type=Path, default=Path(), help="the folder of README.md and docs/")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.action == "add") != bool(args.folders):
        parser.error("give folders to add, and none otherwise")
    if (args.action in {"add", "show"}) != bool(args.csv):
        parser.error("give --csv to add and to show, and not otherwise")
    if args.action == "check":
        lines = outdated_pages(args.root)
        print(*lines, "tables and figures: " + ("run make evidence" if lines else "as their evidence says"), sep="\n")
        return EXIT_ERROR if lines else EXIT_OK
    if args.action == "write":
        print(*map(str, write_pages(args.root)), "tables and figures: as their evidence says", sep="\n")
        return EXIT_OK
    if args.folders:
        rows = evidence_rows(args.folders)
        with exclusive_use(args.csv.parent):
            table = add_evidence(args.csv, rows)
    else:
        table = read_evidence(args.csv)
    print(evidence_markdown(table), end="")
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
