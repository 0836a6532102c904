"""Models by name: a table of names, files, hashes and cards, offline.

``registry.json`` in this package lists the models that come with it; the environment variable MHKD_MODELS names another
folder with such a table, which is asked first. A file is used only where its bytes are the ones that the table says.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of

MODELS_VARIABLE = "MHKD_MODELS"
TABLE = "registry.json"
BUNDLED = "glomeruli-8um"
"""The model that comes with the package: docs/model_card.md."""
_PACKAGED = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """One model of a table: its file, and what it was trained on and is for (``card``, plain JSON)."""

    name: str
    path: Path
    sha256: str
    card: dict[str, Any]


def read_registry() -> dict[str, Entry]:
    """All models that have a name.

    Raises:
        UserError: a table cannot be read.
    """
    folders = [Path(os.environ[MODELS_VARIABLE])] if os.environ.get(MODELS_VARIABLE) else []
    entries: dict[str, Entry] = {}
    for folder in (_PACKAGED, *folders):
        for name, row in read_table(folder / TABLE).items():
            entries[name] = Entry(name, folder / row["file"], row["sha256"], row["card"])
    return entries


def find_entry(sha256: str) -> Entry | None:
    """The model whose file has this hash, where one with a name has it."""
    return next((entry for entry in read_registry().values() if entry.sha256 == sha256), None)


def display_name(model: str | Path, path: Path) -> str:
    """What to call ``model`` of ``path``: as it was asked for, and where it comes from if it is one of ours."""
    return f"{model}, which comes with mhkd: docs/model_card.md" if path.parent == _PACKAGED else str(model)


def read_table(table: Path) -> dict[str, dict[str, Any]]:
    """The rows of one table by name: file, sha256, card.

    Raises:
        UserError: it cannot be read.
    """
    try:
        models = json.loads(table.read_text(encoding="utf-8"))["models"]
        return {
            name: {"file": row["file"], "sha256": row["sha256"], "card": row.get("card", {})}
            for name, row in models.items()
        }
    except OSError as error:
        raise UserError(
            f"no table of models ({error.strerror})", path=table, remedy=f"check {MODELS_VARIABLE}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"not a table of models ({type(error).__name__}: {error})",
            path=table,
            remedy='it looks like {"models": {NAME: {"file": ..., "sha256": ..., "card": {...}}}}',
        ) from None


def find_model(model: str | Path) -> Path:
    """The file of ``model``, a path or a name of the registry.

    Raises:
        UserError: it is neither, or the file of a name is missing or is not the one that the table means.
    """
    path = Path(model)
    if path.is_file():
        return path
    entries = read_registry()
    if str(model) not in entries:
        names = f"a name of the registry: {', '.join(sorted(entries))}" if entries else "a file that training exported"
        raise UserError("no such model", path=path, remedy=f"give {names}" + (" or a file" if entries else ""))
    entry = entries[str(model)]
    if not entry.path.is_file():
        raise UserError(f"the file of the model {entry.name} is missing", path=entry.path, remedy="install it again")
    if sha256_of(entry.path) != entry.sha256:
        raise UserError(
            f"not the file that the registry means by {entry.name}: its SHA-256 differs",
            path=entry.path,
            remedy="install it again",
        )
    return entry.path
