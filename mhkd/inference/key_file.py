"""What slides are called in the outputs, and which neutral name is whose: a table to be kept apart from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mhkd.inference.slide_job import anonymized, check_names
from preprocess.base.errors import UserError
from preprocess.base.files import write_csv
from preprocess.slides.search import SlideFile


def name_slides(
    files: Sequence[SlideFile], outputs: Path, *, anonymize: bool = False, key: Path | None = None
) -> list[SlideFile]:
    """``files`` as the outputs in the folder ``outputs`` shall call them: by their names, or by neutral ones.

    Args:
        anonymize: give neutral names.
        key: where to write which neutral name is whose.

    Raises:
        UserError: two would overwrite each other's outputs, or the key cannot be written where it is asked for.
    """
    named = anonymized(files) if anonymize else list(files)
    check_names(named)
    if key is not None:
        write_key(key, named, outputs)
    return named


def write_key(path: Path, files: Sequence[SlideFile], outputs: Path) -> None:
    """Write name and file of each slide of ``files`` to ``path``, atomically.

    Raises:
        UserError: the slides have no neutral names, or the table would lie in the folder ``outputs``.
    """
    if not all(file.alias for file in files):
        raise UserError("there is no key without neutral names", remedy="give --anonymize as well, or leave --key out")
    if path.resolve().is_relative_to(outputs.resolve()):
        raise UserError(
            "the key would lie among the outputs", path=path, remedy="keep it where those who get them do not see it"
        )
    rows = [(file.name, str(file.path.absolute())) for file in files]
    write_csv(path, pd.DataFrame(rows, columns=["name", "slide"]))
