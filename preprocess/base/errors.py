"""The one exception a user of the product is meant to see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something the user can mend: a bad file, a missing value, a wrong option.

    ``str(error)`` is one line that says what is wrong, where, and what to do. Command-line
    tools print it and exit with status 1; cohort runs catch it per slide and go on.
    """

    def __init__(self, reason: str, *, path: str | Path | None = None, remedy: str = "") -> None:
        where = f"{path}: " if path is not None else ""
        advice = f" ({remedy})" if remedy else ""
        super().__init__(" ".join(f"{where}{reason}{advice}".split()))
        self.path = path
        self.reason = reason
        self.remedy = remedy


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let a UserError of the block name ``path``, the file that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(error.reason, path=path, remedy=error.remedy) from error
