"""Death in the middle of a run, at a chosen place."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def die_at_rename(number: int | None) -> None:
    """Make this process die by kill -9 in the place of its ``number``-th rename from now on; None: let it live.

    Every step that others can see is a rename.
    """
    rename, count = os.replace, 0

    def replace(source: str | Path, target: str | Path) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace
