"""The command ``mhkd``: each of its subcommands runs ``main`` of one tool, which is imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import shtab

from preprocess.base.console import EXIT_OK, HelpFormatter, run_main
from preprocess.base.errors import UserError

COMMANDS = {
    "infer": ("infer_wsi", "find glomeruli on slides: overlay, QuPath GeoJSON, CSV, report"),
    "view": ("view", "look at slides and results in the browser"),
    "demo-slides": ("make_demo_slides", "make procedural kidney slides with annotations"),
    "table": ("make_table", "make slides.csv of the download of a public cohort"),
    "tiles": ("make_tiles", "cut slides into aligned teacher and student tiles"),
    "visualize-tiles": ("visualize_tile_pairs", "draw a sheet of tile pairs with their boxes"),
    "train": ("train", "train a teacher or a baseline, or distil a student"),
    "pseudo-labels": ("pseudo_labels", "label unannotated slides by a teacher"),
    "evaluate": ("evaluate", "score detectors on tiles and whole slides"),
    "evaluate-groups": ("evaluate_groups", "score a detector by source, stain or another column"),
    "ablate": ("run_controls", "train and score the controls of distillation"),
    "evidence": ("evidence", "keep the results of controls as a table"),
    "plot-resolution": ("plot_resolution", "draw AP and F1 against um/px"),
    "export": ("export_model", "export a detector as TorchScript or ONNX"),
    "register": ("register_model", "give a detector a name"),
    "doctor": ("doctor", "say what works here, and what is missing for what"),
}
"""The module of ``mhkd.tools`` and one line of help by subcommand, in the order of the work."""

SHELLS = ("bash", "zsh", "fish")

EXAMPLES = """
Each command explains its options and shows examples: mhkd infer --help

Examples:
  mhkd doctor
  mhkd infer slide.svs --output-dir results
  mhkd view results slide.svs
  mhkd --print-completion bash > ~/.local/share/bash-completion/completions/mhkd
"""


def main() -> None:
    """Run the subcommand that the command line names, and exit with its status."""
    run_main(_main)


def _main() -> int | None:
    name, *arguments = sys.argv[1:] or [""]
    if name in COMMANDS:
        sys.argv = [f"mhkd {name}", *arguments]  # what the tool's parser takes for the name of the program
        return _import_tool(name).main()
    parser = build_parser()
    args = parser.parse_args()
    if args.print_completion:
        sys.stdout.write(completion(args.print_completion) + "\n")
    else:
        parser.print_help()
    return EXIT_OK


def build_parser(*, complete: bool = False) -> argparse.ArgumentParser:
    """The parser of the command without the options of its subcommands; with them where it is ``complete``.

    Raises:
        UserError: it shall be complete, and what a tool needs is not installed.
    """
    parser = argparse.ArgumentParser(
        "mhkd", description=metadata.metadata("mhkd")["Summary"], epilog=EXAMPLES, formatter_class=HelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"mhkd {metadata.version('mhkd')}")
    parser.add_argument("--print-completion", choices=SHELLS, help="print the completion script of a shell")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        parents = [_completed(_import_tool(name).build_parser())] if complete else []
        commands.add_parser(name, help=text, add_help=False, parents=parents)
    return parser


def completion(shell: str) -> str:
    """The script that completes subcommands, options, choices and files in one of ``SHELLS``."""
    return shtab.complete(build_parser(complete=True), shell)


def _completed(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """``parser``, whose free texts and paths are completed by names of files."""
    for action in parser._actions:
        if action.type in (None, Path) and action.nargs != 0 and not action.choices:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def _import_tool(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"mhkd.tools.{COMMANDS[name][0]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "detectron2":
            raise
        raise UserError(
            "Detectron2 is not installed, and no package index carries it under its own name",
            remedy="in the repository: make setup; elsewhere: see 'Installation' in README.md",
        ) from error
