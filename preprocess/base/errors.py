"""The one exception a user of the product is meant to see."""

from __future__ import annotations

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
