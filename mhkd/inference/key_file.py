"""Which neutral name is whose: a table to be kept apart from the outputs that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from preprocess.errors import UserError
from preprocess.manifest import write_csv
from preprocess.slide_search import SlideFile


def write_key(path: Path, files: Sequence[SlideFile], outputs: Path) -> None:
    """Write name and file of each slide of ``files`` to ``path``, atomically.

    Raises UserError where the slides have no neutral names, or the table would lie in the folder ``outputs``.
    """
    if not all(file.alias for file in files):
        raise UserError("there is no key without neutral names", remedy="give --anonymize as well, or leave --key out")
    if path.resolve().is_relative_to(outputs.resolve()):
        raise UserError(
            "the key would lie among the outputs", path=path, remedy="keep it where those who get them do not see it"
        )
    rows = [(file.name, str(file.path.absolute())) for file in files]
    write_csv(path, pd.DataFrame(rows, columns=["name", "slide"]))
