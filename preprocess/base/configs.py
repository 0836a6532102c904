"""Where configuration files are: those of a user, and those that come with mhkd."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parents[2]
_FOLDERS = (_ROOT / "configs", _ROOT / "mhkd" / "configs")
"""In the repository, and where setup.cfg has them installed."""


def config_file(path: str | Path) -> Path:
    """``path``, or the file of the same name among the configurations that come with mhkd where ``path`` is not there.

    So ``configs/demo/teacher.yaml`` is found outside the repository, and a copied folder anywhere finds what its
    files name as ``../phases/roi.yaml``. What is nowhere is returned as it is.
    """
    path = Path(path)
    parts = path.parts
    for outside in ("..", "configs"):
        if outside in parts:
            parts = parts[len(parts) - parts[::-1].index(outside) :]
    own = [path, *(folder.joinpath(*parts) for folder in _FOLDERS if not Path(*parts).is_absolute())]
    return next((found for found in own if found.is_file()), path)
