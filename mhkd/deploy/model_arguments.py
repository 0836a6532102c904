"""Several models on a command line, each under a name of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from preprocess.base.errors import UserError


def name_models(arguments: Sequence[str]) -> dict[str, Path]:
    """``NAME=CHECKPOINT`` -> both; without a name, the checkpoint's folder and stem.

    Raises:
        UserError: a name comes twice.
    """
    named: dict[str, Path] = {}
    for text in arguments:
        name, _, path = text.rpartition("=")
        name = name or f"{Path(path).parent.name}/{Path(path).stem}".lstrip("/")
        if name in named:
            raise UserError(f"two models are named {name!r}", remedy="give each its own name: --model NAME=CHECKPOINT")
        named[name] = Path(path)
    return named
