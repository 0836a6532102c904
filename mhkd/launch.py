"""The installed commands, such as ``mhkd-infer``: each runs ``main`` of one tool."""

from __future__ import annotations

import importlib
from functools import partial

from preprocess.base.console import run_main
from preprocess.base.errors import UserError


def _main(tool: str) -> int | None:
    try:
        module = importlib.import_module(f"mhkd.tools.{tool}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "detectron2":
            raise
        raise UserError(
            "Detectron2 is not installed, and no package index carries it under its own name",
            remedy="in the repository: make setup; elsewhere: see 'Installation' in README.md",
        ) from error
    return module.main()


def _launch(tool: str) -> None:
    run_main(partial(_main, tool))


controls = partial(_launch, "run_controls")
demo_slides = partial(_launch, "make_demo_slides")
evaluate = partial(_launch, "evaluate")
evaluate_groups = partial(_launch, "evaluate_groups")
evidence = partial(_launch, "evidence")
export = partial(_launch, "export_model")
infer = partial(_launch, "infer_wsi")
plot_resolution = partial(_launch, "plot_resolution")
pseudo_labels = partial(_launch, "pseudo_labels")
register = partial(_launch, "register_model")
table = partial(_launch, "make_table")
tiles = partial(_launch, "make_tiles")
train = partial(_launch, "train")
verify = partial(_launch, "verify_install")
view = partial(_launch, "view")
visualize_tiles = partial(_launch, "visualize_tile_pairs")
